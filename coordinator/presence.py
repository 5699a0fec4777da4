"""Who this coordinator is, and that there is only one in a federation."""

from __future__ import annotations

from dataclasses import dataclass

from config.failures import ExitCode
from federation.incarnation import is_of_earlier_start
from federation.machine import Stop
from federation.messages import CoordinatorPresence, State
from federation.topics import Topics


@dataclass(frozen=True, slots=True)
class Self:
    """Who this coordinator is: its ledger, and this start of it."""

    ledger: bytes
    process: bytes
    boot: int

    def presence(self, state: State, incarnation: int) -> CoordinatorPresence:
        """What a coordinator says of itself when it comes, and its will when it is gone."""
        return CoordinatorPresence(
            state=state, ledger=self.ledger, process=self.process, incarnation=incarnation
        )


class Rivals:
    """The other coordinators of a federation that this one hears of.

    A newcomer leaves when another is there; who is there leaves when one took over. Where the
    broker gives both the same client id, by their certificates, each connection takes the other's
    down, and only wills are heard: two of one rival tell that it was online in between.
    """

    def __init__(self, me: Self, topics: Topics, *, take_over: bool) -> None:
        """Hear of nobody so far.

        Args:
            take_over: whether this one may take the place of another.
        """
        self._me = me
        self._where = topics.root.rstrip("/")
        self._take_over = take_over
        self._gone: tuple[bytes, int] | None = None

    def heard(self, presence: CoordinatorPresence, *, born: bool) -> Stop | None:
        """Whether this coordinator has to end, now that it hears of one.

        Args:
            born: whether this one has told the federation that it is there.
        """
        me = self._me
        own_past = presence.ledger == me.ledger and is_of_earlier_start(
            presence.incarnation, me.boot
        )
        if presence.process == me.process or own_past:
            return None
        if presence.state is State.OFFLINE:
            return self._rival_gone(presence)
        if self._take_over and not born:
            return None
        if born:
            return self._stop("has taken over")
        return self._stop("is online in", "; stop it first, or say --take-over if it is gone")

    def _rival_gone(self, presence: CoordinatorPresence) -> Stop | None:
        before, self._gone = self._gone, (presence.process, presence.incarnation)
        if self._take_over or before is None or before[0] != presence.process:
            return None
        if presence.incarnation <= before[1]:
            return None
        return self._stop(
            "uses the membership of this one in",
            "; end one of them",
        )

    def _stop(self, what: str, advice: str = "") -> Stop:
        text = f"another coordinator {what} the federation {self._where}{advice}"
        return Stop(ExitCode.DUPLICATE, text)
