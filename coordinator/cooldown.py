"""Who has to wait: a device that is in a version is taken again only some versions later.

Without this the devices that are ten times as fast as the rest have ten times their say. With it a
device that sends more often than its turn comes keeps its updates until then (`Pace`), and in the
meantime others fill the buffer.

A cooldown never ends a federation. It is as long as leaves at least a version's worth of the
devices that are there free to contribute (the automatic one: half of all devices). Those may be
silent all the same, so it also *gives way*: when the next version takes ten times as long as
versions take lately, or its deadline passes, devices are taken whether they cool down or not. After
that the cooldown is half as long, and grows again by one with every twenty versions that come in
time: devices that are there and say nothing cost time, but not for ever and not each version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import ceil
from statistics import median

from config.settings import Aggregation
from federation.machine import Moment

LONGEST = 20
# Of versions that come about at random moments one in a thousand takes ten medians.
PATIENCE = 10.0
LEAST_PATIENCE_S = 5.0
UNKNOWN_PATIENCE_S = 600.0
LEAST_WAIT_S = 1.0
LONGEST_WAIT_S = 60.0
UNKNOWN_VERSION_S = 5.0
TIMES = 9
GROWTH = 0.05


class Cooldown:
    """In which version each device was last, and how long that keeps it out of others."""

    def __init__(self, rule: Aggregation, contributed: Mapping[str, int]) -> None:
        """Begin with what the ledger remembers: each device's last version."""
        self._rule = rule
        self._last = dict(contributed)
        self._fleet = 0
        self._limit = float(self._kept)
        self._times_s: list[float] = []  # of the last versions that came in time
        self._began_s: float | None = None
        self._gave_way = False

    def count(self, fleet: int) -> None:
        """So many devices may be waited for."""
        self._fleet = fleet

    @property
    def versions(self) -> int:
        """How many versions a device waits now."""
        return min(int(self._limit), longest(self._rule, self._fleet))

    @property
    def gives_way_s(self) -> float:
        """When the next version takes so long that nobody cools down any more."""
        if self._began_s is None:
            return 0.0
        patience_s = UNKNOWN_PATIENCE_S
        if self._times_s:
            patience_s = max(LEAST_PATIENCE_S, PATIENCE * median(self._times_s))
        return self._began_s + min(patience_s, self._rule.deadline_s or patience_s)

    def left(self, device: str, next_version: int) -> int:
        """How many versions this device has to wait before it may be in one, or 0.

        Args:
            next_version: the version that it could be in at the earliest.
        """
        last = self._last.get(device)
        return max(0, last + self.versions + 1 - next_version) if last is not None else 0

    def barred(self, devices: Iterable[str], next_version: int, at: Moment) -> frozenset[str]:
        """Those of the devices that have to wait; none when the cooldown gives way."""
        if not self.versions:
            return frozenset()
        cooling = frozenset(d for d in devices if self.left(d, next_version))
        if at.now_s < self.gives_way_s:
            return cooling
        self._gave_way |= bool(cooling)
        return frozenset()

    def wait_s(self, device: str, waits: bool, next_version: int, at: Moment) -> float | None:
        """How long a device is to keep its update: as long as versions take lately, but not so
        long that it could not be asked again; None if its update is welcome.

        Args:
            waits: whether another update of it waits for its version already: then its next turn
                comes a whole cooldown after that.
        """
        if waits and self.versions and at.now_s < self.gives_way_s:
            left = self.versions + 1
        elif self.barred((device,), next_version, at):
            left = self.left(device, next_version)
        else:
            return None
        each_s = median(self._times_s) if self._times_s else UNKNOWN_VERSION_S
        return min(LONGEST_WAIT_S, max(LEAST_WAIT_S, left * each_s))

    def begin(self, at: Moment) -> None:
        """From now on a version is waited for."""
        if self._began_s is None:
            self._began_s = at.now_s

    def made(self, version: int, devices: Collection[str], at: Moment) -> None:
        """A version was made of updates of these devices."""
        self._last.update(dict.fromkeys(devices, version))
        for device in [d for d, last in self._last.items() if last + self._kept < version]:
            del self._last[device]
        if self._gave_way:
            # How long it took is due to the cooldown, so nothing is learned from it but that.
            self._limit = float(self.versions // 2)
        else:
            if self._began_s is not None:
                self._times_s = [*self._times_s, at.now_s - self._began_s][-TIMES:]
            self._limit = min(self._limit + GROWTH, self._kept)
        self._gave_way = False
        self._began_s = at.now_s

    @property
    def _kept(self) -> int:
        """For how many versions it matters at most that a device was in one."""
        return max(LONGEST, self._rule.cooldown or 0)


def longest(rule: Aggregation, fleet: int) -> int:
    """The longest cooldown that leaves enough of so many devices free to contribute.

    Automatic: floor(fleet / (2 K)) versions, so that no more than half of the fleet waits; at most
    `LONGEST`, and at most half of max_staleness, so that what a device learned while it waits is
    still welcome; none for rounds, which take everyone who was invited. Set by hand: what is set,
    but no more than leaves K devices free.
    """
    match rule.trigger:
        case "immediate":
            each = 1
        case "buffer":
            each = rule.buffer_size
        case "rounds":
            each = max(1, ceil(fleet * rule.fraction))
    if rule.cooldown is not None:
        return min(rule.cooldown, max(0, fleet // each - 1))
    if rule.trigger == "rounds":
        return 0
    return min(LONGEST, rule.max_staleness // 2, fleet // (2 * each))
