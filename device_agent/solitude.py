"""Being alone: no link, or no coordinator. After a while a device trains again on what it has.

Without that a device would idle through an absence, however much room its outbox has, as no new
version comes. It trains once more from the same version with another seed, as a client of FedBuff
does that is drawn again before the server's model has moved (arXiv:2106.06639, algorithm 1).
"""

from __future__ import annotations

from math import inf

from federation.machine import Moment


class Solitude:
    """Since when nobody was heard, and whether that is long."""

    def __init__(self, long_s: float) -> None:
        """Begin among others; `long_s` is how long being alone has to last, in seconds."""
        self.is_long = False
        self._long_s = long_s
        self._since_s = inf

    @property
    def due_s(self) -> float:
        """When it will have been long."""
        return inf if self.is_long else self._since_s + self._long_s

    def begins(self, at: Moment) -> None:
        """The link is gone, or the coordinator."""
        self._since_s = min(self._since_s, at.now_s)

    def ends(self) -> None:
        """The coordinator was heard."""
        self._since_s = inf
        self.is_long = False

    def advance(self, at: Moment) -> None:
        """Let time pass."""
        self.is_long = self.is_long or at.now_s >= self.due_s
