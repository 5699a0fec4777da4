"""Virtual time: things happen in the order of their due times, and a day takes no longer than they.

The simulator and the tests run the very cores of coordinator and devices on this clock.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualTime:
    """A clock that jumps from one due action to the next; equal times keep their order."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def call_at(self, at_s: float, action: Callable[[], None]) -> None:
        """Do `action` when the clock reads `at_s`, or next if that is past."""
        heapq.heappush(self._due, (max(at_s, self.now_s), next(self._order), action))

    def call_in(self, delay_s: float, action: Callable[[], None]) -> None:
        """Do `action` after `delay_s` seconds."""
        self.call_at(self.now_s + delay_s, action)

    def step(self) -> bool:
        """Do the next due action; False if there is none."""
        if not self._due:
            return False
        self.now_s, _, action = heapq.heappop(self._due)
        action()
        return True

    def run_until(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Step until `done()` or until the clock passes `limit_s`; whether it was done."""
        while not done():
            if not self._due or self._due[0][0] > limit_s:
                return False
            self.step()
        return True
