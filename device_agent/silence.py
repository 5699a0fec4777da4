"""Asking for the header when it is silent for long: the broker may have lost what it retained."""

from __future__ import annotations

from math import inf

from federation.machine import Moment
from federation.messages import Header, Hello

HELLO_S = 60.0
HELLO_CAP_S = 600.0


class Silence:
    """When to say hello: soon on a new link, then ever less often while nobody answers."""

    def __init__(self, patience_s: float) -> None:
        self.due_s = inf
        self._patience_s = patience_s
        self._wait_s = HELLO_S
        self._header_heard = False

    def link_up(self, at: Moment) -> None:
        """A new connection: the retained header should come by itself."""
        self._wait_s = HELLO_S
        self._header_heard = False
        self.due_s = at.now_s + self._patience_s * (1 + at.chance)

    def is_long(self, at: Moment) -> bool:
        """Whether to say hello now; if so, the next one is later."""
        if at.now_s < self.due_s:
            return False
        self.due_s = at.now_s + self._wait_s * (0.75 + 0.5 * at.chance)
        self._wait_s = min(HELLO_CAP_S, 2 * self._wait_s)
        return True

    def answered(self, at: Moment) -> None:
        """Somebody is there.

        It never puts the next hello off: a word that somebody repeats could do so for ever.
        """
        self._wait_s = HELLO_S
        self.due_s = min(self.due_s, at.now_s + HELLO_S * (1 + at.chance))

    def header(self, is_news: bool, at: Moment) -> None:
        """A header came: the first on this link, and any that is news, is what was waited for."""
        if is_news or not self._header_heard:
            self._header_heard = True
            self.due_s = at.now_s + HELLO_S * (1 + at.chance)


def hello_of(incarnation: int, known: Header | None) -> Hello:
    """What to say on this connection: which header is known, if any is."""
    return Hello(
        incarnation=incarnation,
        ledger=known.ledger if known else None,
        boot=known.boot if known else 0,
        version=known.version if known else 0,
        draw=known.draw if known else 0,
    )
