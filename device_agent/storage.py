"""A full disk as a state: told once when it begins, in the presence while it lasts, and at its end.

Whatever found no room is done again after a while, the very thing: that it is done then is the
only sign of room that can be trusted. The phases of work wait in `work`; here wait the updates that
are judged and could not be deleted. Delivery needs no room, and each update that it ends gives some
back.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf

from device_agent.vocabulary import AgentEffect, Forget
from federation.machine import Level, Log, Moment

STORAGE_FULL = "storage full"
RETRY_STORAGE_S = 30.0


def retry_at(at: Moment) -> float:
    """When to look again whether there is room."""
    return at.now_s + RETRY_STORAGE_S * (0.75 + 0.5 * at.chance)


class Milestone(IntEnum):
    """What work has to reach before its lack of room counts as overcome."""

    FETCHED = 1
    BEGUN = 2
    COMMITTED = 3


class Lack:
    """What work could not write, if anything, and until when that counts."""

    def __init__(self) -> None:
        self.what = ""
        self._until = Milestone.COMMITTED

    def begin(self, what: str, until: Milestone) -> None:
        """There was no room for this."""
        self.what, self._until = what, until

    def reached(self, milestone: Milestone) -> None:
        """Work has come so far: what it lacked until then it has."""
        if milestone >= self._until:
            self.end()

    def end(self) -> None:
        """Nothing waits for room."""
        self.what = ""


class Storage:
    """Whether the disk is full, and the judged updates that it did not let go."""

    def __init__(self, place: str) -> None:
        """Begin with room; `place` is the directory in which people are asked to free some."""
        self.full = False
        self._place = place
        self._judged: dict[int, Forget] = {}
        self._due_s = inf

    @property
    def paused(self) -> str:
        """What the presence tells of it."""
        return STORAGE_FULL if self.full else ""

    @property
    def due_s(self) -> float:
        """When to delete again what could not be deleted."""
        return self._due_s if self._judged else inf

    def kept(self, effect: Forget, at: Moment) -> None:
        """There was no room to delete an update that is judged."""
        self._judged[effect.sequence] = effect
        self._due_s = retry_at(at)

    def forgotten(self, sequence: int) -> None:
        """A judged update is gone."""
        self._judged.pop(sequence, None)

    def advance(self, lacking: str, at: Moment) -> list[AgentEffect]:
        """Try again if it is time, and tell of a beginning or an end.

        Args:
            lacking: what work could not write, if anything.
        """
        again: list[AgentEffect] = []
        if at.now_s >= self.due_s:
            self._due_s = retry_at(at)
            again += [effect for _, effect in sorted(self._judged.items())]
        if not lacking and self._judged:
            lacking = f"the verdict on update {min(self._judged)}"
        if bool(lacking) == self.full:
            return again
        self.full = bool(lacking)
        if not self.full:
            return [*again, Log(Level.INFO, "storage has room again")]
        facts = {"unwritten": lacking, "hint": f"free space in {self._place}"}
        return [*again, Log(Level.WARNING, STORAGE_FULL, facts)]
