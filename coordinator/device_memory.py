"""What devices remember of what was taken of them, as the coordinator knows it: their sum.

A device with a memory h_i sends d_i, what is new against it, and adds d_i to h_i once it is
accepted. Each update is applied exactly once: so the sum S of all d_i in versions is the sum of all
h_i, one vector however many devices there are. With n of them, h = S / n stands in for those that
did not send:

    u = gamma / K sum_i s_i d_i + k / K h

where k of the K updates are of an outbox that is in S already. What a first update says is new
altogether (its h_i is zero, and not in h), so it counts as it is. If all are known that is the
calibrated update h + (1 / K) sum_i (Delta_i - h_i) of CA2FL (Wang et al., ICLR 2024), whose server
holds n vectors, and with gamma = K / n the mean of MIFA (Gu et al. 2021, arXiv:2106.04159).
"""

from __future__ import annotations

import numpy as np

from coordinator.ranges import by_ranges
from coordinator.vocabulary import Contribution
from federation.compression import Vector

SUM = "memory"
HOLDERS = "memory_holders"


class DeviceMemory:
    """The sum as one version finds it, and as it leaves it."""

    def __init__(self, state: dict[str, Vector], d: int) -> None:
        """Begin with what the last version left.

        Args:
            state: as the server's step has it; empty at first.
            d: size of the vector.
        """
        self._before = state.get(SUM, np.zeros(d, dtype=np.float32))
        self._after = np.array(self._before)
        self._holders = int(state[HOLDERS][0]) if HOLDERS in state else 0
        self._updates = self._newcomers = 0

    def add(self, part: Contribution) -> None:
        """An update is in the version; what it says comes by `hear`."""
        self._updates += 1
        self._newcomers += not part.known

    def hear(self, news: Vector, where: slice) -> None:
        """A range of an update: unscaled, for so its device adds it, too."""
        self._after[where] += news

    def calibrate(self, gain: float, combined: Vector, threads: int | None = None) -> None:
        """Make the update to step with of what was combined, in its place, once all were added.

        Args:
            gain: gamma.
            combined: (1 / K) sum_i s_i d_i, Float32[d].
            threads: as for `by_ranges`.
        """
        known = self._updates - self._newcomers
        share = np.float32(known / (self._updates * self._holders) if self._holders else 0)

        def calibrate(where: slice) -> None:
            update = combined[where]
            update *= np.float32(gain)
            if share:
                update += self._before[where] * share

        by_ranges(combined.size, calibrate, threads)

    def state(self) -> dict[str, Vector]:
        """What the next version finds: S as Float32[d], n as Float32[1]."""
        holders = self._holders + self._newcomers
        return {SUM: self._after, HOLDERS: np.array([holders], dtype=np.float32)}
