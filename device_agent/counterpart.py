"""What is known of the coordinator's presence, late words left out."""

from __future__ import annotations

from enum import Enum

from federation.messages import CoordinatorPresence, State


class Word(Enum):
    """What a presence tells."""

    LATE = "it is about an earlier connection, or an earlier coordinator"
    GONE = "the coordinator is gone"
    HERE = "the coordinator is there, and was not on this connection before"
    STILL_HERE = "it is what was known"


class Counterpart:
    """The last presence of a coordinator that was believed."""

    def __init__(self) -> None:
        self._known: tuple[bytes, int, State] | None = None

    def heard(self, presence: CoordinatorPresence) -> Word:
        """Take a presence in."""
        seen = (presence.ledger, presence.incarnation, presence.state)
        known = self._known
        if known is not None:
            if seen[0] == known[0] and seen[1] < known[1]:
                return Word.LATE  # a will of an earlier connection
            if seen[0] != known[0] and presence.state is State.OFFLINE:
                return Word.LATE  # a will of an earlier coordinator
        self._known = seen
        if presence.state is State.OFFLINE:
            return Word.GONE
        return Word.STILL_HERE if seen == known else Word.HERE
