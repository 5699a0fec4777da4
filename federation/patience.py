"""How patient a session is with its link: when to ask, when to give up, how long to wait then.

A link fails when no byte moves, not by the clock. What comes is a sign of life, and so is what
leaves, as long as a question of ours (a PINGREQ) may still be on its way behind it: on a slow link
it takes its time. Once it has left, an answer has to come, or anything else.
"""

from __future__ import annotations


def reconnect_wait_s(
    failures: int, held_s: float, base_s: float, cap_s: float, chance: float
) -> float:
    """How long to wait before the next attempt to connect: exponential, with full jitter.

    All of the wait is left to chance, so that of a thousand agents that lost the same broker no
    great part comes back in the same second. Who was linked only for a moment has a bad link of
    its own, rather than lost a broker with the others, and is back sooner.

    Args:
        failures: attempts in a row that came to nothing; 0 after a connection that was of use.
        held_s: how long that connection was of use.
        chance: uniform in [0, 1).
    """
    if failures == 0:
        return chance * min(base_s, held_s / 2)
    return chance * min(cap_s, base_s * 2.0 ** min(failures - 1, 20))


class Pulse:
    """Whether one connection is alive.

    After half a keepalive in which nothing came, or nothing left, a question is due; it has a
    whole keepalive for its way and its answer, from the last byte that moved. So a silent end is
    noticed after one and a half keepalives, as a broker notices it.
    """

    def __init__(self, keepalive_s: float, now_s: float) -> None:
        self._keepalive_s = keepalive_s
        self._came_s = self._left_s = self._moved_s = now_s
        self._asked = False
        self._question_left = False

    def came(self, now_s: float) -> None:
        """Bytes came."""
        self._came_s = self._moved_s = now_s
        self._asked = False

    def left(self, now_s: float) -> None:
        """Bytes left, towards the other end."""
        self._left_s = now_s
        if not self._question_left:
            self._moved_s = now_s

    def emptied(self) -> None:
        """All that was to leave is at the other end, our question with it."""
        self._question_left = self._asked

    def asked(self, now_s: float) -> None:
        """A question was put behind what is to leave."""
        self._left_s = self._moved_s = now_s
        self._asked, self._question_left = True, False

    @property
    def due_s(self) -> float:
        """When a question is due; while one waits for its answer, at once: there is more to see."""
        return 0.0 if self._asked else min(self._came_s, self._left_s) + self._keepalive_s / 2

    def is_question_due(self, now_s: float) -> bool:
        """Whether it is time to ask for a sign of life, or to give one."""
        silent_s = now_s - min(self._came_s, self._left_s)
        return not self._asked and silent_s >= self._keepalive_s / 2

    def is_gone(self, now_s: float) -> bool:
        """Whether a question was left without an answer while no byte moved."""
        return self._asked and now_s - self._moved_s >= self._keepalive_s
