"""How long updates are lately, and by what a longer one is shortened: `combine = "clipped_mean"`.

The bound is the median of what devices sent last, one norm a device, so that a device that sends
often, or ever longer ones, moves it by no more than any other; fewer than half of the devices
cannot choose it (centered clipping with a zero center: Karimireddy, He and Jaggi 2021,
arXiv:2012.10333; adaptive bounds: Andrew et al. 2021, arXiv:1905.03871, whose quantile is the
median here).
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

WINDOW = 10_000
# The median of fewer tells nothing: of two, each would be clipped to half way to the other.
FEWEST = 3


class Norms:
    """The norms of the last accepted updates of the last `WINDOW` devices."""

    def __init__(self, remembered: Iterable[tuple[str, float]] = ()) -> None:
        """Begin with what the ledger remembers, oldest first."""
        self._latest: dict[str, float] = {}
        self._sorted: list[float] = []  # asked for at each update, so it is kept in order
        for device, norm in remembered:
            self.add(device, norm)

    def add(self, device: str, norm: float) -> None:
        """An update was accepted. One of norm zero tells nothing of how long updates are."""
        if norm <= 0:
            return
        if device in self._latest:
            self._forget(device)
        elif len(self._latest) == WINDOW:
            self._forget(next(iter(self._latest)))
        self._latest[device] = norm
        insort(self._sorted, norm)

    def median(self, without: frozenset[str] = frozenset()) -> float | None:
        """The median norm; None while too few devices have sent something.

        Args:
            without: devices that have no say in it.
        """
        passed_over = sorted(self._latest[device] for device in without if device in self._latest)
        count = len(self._sorted) - len(passed_over)
        if count < FEWEST:
            return None
        lower, upper = (self._nth(n, passed_over) for n in ((count - 1) // 2, count // 2))
        return (lower + upper) / 2

    def _forget(self, device: str) -> None:
        del self._sorted[bisect_left(self._sorted, self._latest.pop(device))]

    def _nth(self, n: int, passed_over: list[float]) -> float:
        """The n-th smallest, from 0, of those that are not passed over (in ascending order)."""
        for norm in passed_over:
            n += bisect_left(self._sorted, norm) <= n
        return self._sorted[n]


def clip(norm: float, bound: float | None) -> float:
    """By what an update of this norm is multiplied, at most 1, so that it is within the bound."""
    return 1.0 if bound is None or norm <= bound else bound / norm
