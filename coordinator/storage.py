"""Whether the gateway's disk has room: while it has none, nothing is begun that needs it.

A disk that is full fails whatever is tried, and nothing of it remains, so there is nothing to
repair: devices are put off, what is under way is forgotten (the spool keeps what has come), and
after a while the same things are tried again.
"""

from __future__ import annotations

from math import inf

from coordinator.vocabulary import CoordinatorEffect
from federation.machine import Level, Log, Moment

RETRY_S = 5.0
REASON = "the storage of the coordinator is full"


class Storage:
    """What the last attempts to write have taught."""

    def __init__(self) -> None:
        self.blocked = False
        self.retry_s = inf
        self._full = False

    def advance(self, at: Moment) -> None:
        """Let things be tried again if it is time."""
        if at.now_s >= self.retry_s:
            self.blocked, self.retry_s = False, inf

    def failed(self, effect: object, at: Moment) -> list[CoordinatorEffect]:
        """There was no room for what an effect wanted."""
        self.blocked = True
        self.retry_s = at.now_s + RETRY_S
        if self._full:
            return []
        self._full = True
        facts = {"while": type(effect).__name__, "retry_s": RETRY_S}
        return [Log(Level.ERROR, "storage full: updates are put off; make room on the disk", facts)]

    def worked(self) -> list[CoordinatorEffect]:
        """Something was written durably."""
        if not self._full:
            return []
        self._full = self.blocked = False
        self.retry_s = inf
        return [Log(Level.INFO, "storage has room again")]
