"""Whether this machine may train now, as far as it was looked at lately.

It is looked at only while that matters: before work begins, while training goes on, and while
something hinders. A waiting device does not wake for it.
"""

from __future__ import annotations

from math import inf

from device_agent.vocabulary import Look, Looked
from federation.machine import Moment

LOOK_EVERY_S = 10.0


class Fitness:
    """What the last look found."""

    def __init__(self) -> None:
        self.hindrance = ""
        self._seen_s = -inf
        self._looking = False
        self._due_s = inf

    @property
    def due_s(self) -> float:
        """When to look again."""
        return self._due_s

    @property
    def paused(self) -> str:
        """What the presence tells of it: the kind of hindrance, without figures that vary."""
        return self.hindrance.partition(":")[0]

    def may_train(self, at: Moment) -> bool:
        """Whether a look not long ago found nothing that hinders."""
        return not self.hindrance and at.now_s - self._seen_s < 2 * LOOK_EVERY_S

    def looked(self, event: Looked, at: Moment) -> None:
        """A look found this."""
        self._looking = False
        self._seen_s = at.now_s
        self.hindrance = event.hindrance

    def advance(self, matters: bool, at: Moment) -> list[Look]:
        """Look, if that matters and the last look is old."""
        if not matters and not self.hindrance:
            self._due_s = inf
            return []
        self._due_s = inf if self._looking else self._seen_s + LOOK_EVERY_S
        if at.now_s < self._due_s or self._looking:
            return []
        self._looking, self._due_s = True, inf
        return [Look(was_hindered=bool(self.hindrance))]
