"""How much may be under way to the coordinator in all, whoever sends it.

Each upload has a window of its own, and a thousand of them together would be more than a broker
keeps for a coordinator that reads as fast as it can: it drops the rest, and what was dropped is
asked for again after a silence. So they share one credit; who finds it spent waits in line, and is
told as soon as chunks have come. What was lent to a device that sends nothing is lent anew after a
while: it may have gone, or be on a link so slow that what it sends takes up no room.
"""

from __future__ import annotations

from math import inf

from federation.machine import Moment

# Of chunks of 120 KiB 128, half of what mosquitto queues for one client by its configuration here.
SHARED_BYTES = 15 * 2**20
LENT_S = 2.0


class Credit:
    """What is lent to whom, in bytes, and who waits for some."""

    def __init__(self, limit_bytes: int = SHARED_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._lent_bytes = 0
        self._lent: dict[str, tuple[int, float]] = {}  # who was asked longest ago first
        self._line: dict[str, None] = {}

    @property
    def is_spent(self) -> bool:
        """Whether nothing is left to lend."""
        return self._lent_bytes >= self._limit_bytes

    @property
    def due_s(self) -> float:
        """When somebody in line may be asked though nothing comes; infinity if nobody waits."""
        if not self._line or not self._lent:
            return inf
        return next(iter(self._lent.values()))[1] + LENT_S

    def asked(self, device: str, owed_bytes: int, at: Moment) -> None:
        """A device was asked for something: so much is under way from it now."""
        self._lent_bytes += owed_bytes - self._lent.pop(device, (0, 0.0))[0]
        self._lent[device] = owed_bytes, at.now_s

    def sent(self, device: str, owed_bytes: int) -> None:
        """Something came from it, or was given up: so much is under way still."""
        if device in self._lent:
            before, since_s = self._lent[device]
            self._lent[device] = owed_bytes, since_s
            self._lent_bytes += owed_bytes - before

    def done(self, device: str) -> None:
        """Nothing more is expected of it."""
        self._lent_bytes -= self._lent.pop(device, (0, 0.0))[0]
        self._line.pop(device, None)

    def wait(self, device: str) -> None:
        """It would be asked if something were left: it goes to the end of the line."""
        self._line.setdefault(device)

    def next(self, at: Moment) -> str | None:
        """Who may be asked for something now; None if nobody waits, or nothing is left."""
        while self._line and self.is_spent:
            device, (owed_bytes, since_s) = next(iter(self._lent.items()))
            if at.now_s < since_s + LENT_S:
                return None
            del self._lent[device]
            self._lent_bytes -= owed_bytes
        if not self._line:
            return None
        first = next(iter(self._line))
        del self._line[first]
        return first
