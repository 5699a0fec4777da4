"""Every transition of a device agent begins here: an event comes in, effects go out.

Two things go on side by side, each in a module of its own. Work: wait for a version, fetch it,
train on it. Delivery: offer what came of it until the coordinator has judged it. Work goes on
without a link; delivery goes on without work. This module routes what is heard to the two, and
keeps the device's own presence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from typing import assert_never

from config.failures import ExitCode
from config.settings import Transfer
from device_agent.delivery import Delivery
from device_agent.vocabulary import (
    AgentEffect,
    AgentEvent,
    Committed,
    Prepared,
    TrainingEnded,
    TrainingFailed,
)
from device_agent.work import Phase, VersionKey, Work
from federation.machine import Level, Linked, Log, Moment, Publish, Received, Stop, Tick, Unlinked
from federation.messages import (
    Chunk,
    CoordinatorPresence,
    DevicePresence,
    Header,
    Hello,
    Message,
    MessageError,
    Offer,
    Pace,
    Receipt,
    Request,
    State,
    Want,
    decode,
    encode,
)
from federation.topics import Address, Place, Topics

HELLO_S = 60.0
HELLO_CAP_S = 600.0
GRACE_S = 0.5


@dataclass(frozen=True, slots=True)
class Self:
    """Who this agent is: its id, its outbox, this start of it, and what it can learn."""

    device: str
    outbox: bytes
    process: bytes
    boot: int
    task: str
    agent: str

    def presence(self, state: State, incarnation: int) -> DevicePresence:
        """What a device says of itself when it comes, and its will when it is gone."""
        return DevicePresence(
            state=state,
            outbox=self.outbox,
            process=self.process,
            incarnation=incarnation,
            agent=self.agent,
            task=self.task,
        )


class AgentCore:
    """The pure agent: `handle` is its only way to change."""

    def __init__(
        self,
        me: Self,
        topics: Topics,
        transfer: Transfer,
        outbox_limit: int,
        offers: Iterable[Offer] = (),
        trained: VersionKey | None = None,
    ) -> None:
        """Begin where the disk says the last start ended.

        Args:
            offers: the updates in the outbox.
            trained: ledger and version of the newest update that was ever committed.
        """
        self.counts: Counter[str] = Counter()
        self.delivery = Delivery(topics.up(me.device), offers, transfer.silence_s)
        self.work = Work(me.device, me.task, topics, transfer, trained)
        self._me = me
        self._topics = topics
        self._transfer = transfer
        self._outbox_limit = outbox_limit
        self._linked = False
        self._incarnation = 0
        self._birth_heard = False
        self._coordinator: tuple[bytes, int, State] | None = None
        self._birth_s = inf
        self._hello_s = inf
        self._hello_wait_s = HELLO_S

    def handle(self, event: AgentEvent, at: Moment) -> list[AgentEffect]:
        """Take one event; the effects are to be carried out in order."""
        effects = self._take(event, at)
        has_room = len(self.delivery) < self._outbox_limit
        effects += self.work.go_on(has_room, self._linked, at)
        if self._linked:
            effects += self._be_born(at)
            effects += self.delivery.advance(at)
            effects += self._say_hello(at)
        return effects

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`, on the clock of its moments; infinity if never."""
        presence_s = min(self._birth_s, self._hello_s) if self._linked else inf
        return min(self.delivery.due_s, self.work.due_s(self._linked), presence_s)

    def validate(self) -> None:
        """The invariants, for tests: call after every event."""
        assert (self.work.phase is Phase.WAITING) == (self.work.current is None)
        assert len(self.delivery) <= self._outbox_limit
        assert self._linked or self.delivery.due_s == inf

    def _take(self, event: AgentEvent, at: Moment) -> list[AgentEffect]:
        match event:
            case Received():
                return self._received(event, at)
            case Tick():
                return []
            case Linked():
                return self._link_up(event, at)
            case Unlinked():
                self._linked = False
                self.delivery.pause()
                return [Log(Level.WARNING, "link down", {"reason": event.reason})]
            case Prepared():
                self.work.prepared(event)
                return []
            case TrainingEnded():
                return self.work.ended(event)
            case TrainingFailed():
                return self.work.failed(event, at)
            case Committed():
                return self._committed(event.offer, at)
        assert_never(event)

    def _committed(self, offer: Offer, at: Moment) -> list[AgentEffect]:
        self.work.committed((offer.ledger, offer.base_version))
        self.delivery.add(offer, at)
        facts = {
            "version": offer.base_version,
            "sequence": offer.sequence,
            "bytes": offer.payload.size,
            "train_s": round(offer.train_s, 1),
            "examples": offer.examples,
            **offer.metrics,
        }
        return [Log(Level.INFO, "update in outbox", facts)]

    # The link

    def _link_up(self, event: Linked, at: Moment) -> list[AgentEffect]:
        self._linked = True
        self._incarnation = event.incarnation
        self._hello_wait_s = HELLO_S
        patience_s = self._transfer.patience_s if self.work.newest is None else HELLO_S
        self._hello_s = at.now_s + patience_s * (1 + at.chance)
        self.delivery.resume(at)
        self.work.relink()
        # An agent that was here before has to hear first whether another one has come since.
        self._birth_s = at.now_s + (GRACE_S if self._birth_heard else 0)
        return [Log(Level.INFO, "link up")]

    def _be_born(self, at: Moment) -> list[AgentEffect]:
        if at.now_s < self._birth_s:
            return []
        self._birth_s = inf
        birth = self._me.presence(State.ONLINE, self._incarnation)
        return [Publish(self._topics.device(self._me.device), encode(birth), retain=True)]

    def _say_hello(self, at: Moment) -> list[AgentEffect]:
        if at.now_s < self._hello_s:
            return []
        self._hello_s = at.now_s + self._hello_wait_s * (0.75 + 0.5 * at.chance)
        self._hello_wait_s = min(HELLO_CAP_S, 2 * self._hello_wait_s)
        known = self.work.newest
        hello = Hello(
            incarnation=self._incarnation,
            ledger=known.ledger if known else None,
            version=known.version if known else 0,
            draw=known.draw if known else 0,
        )
        return [Publish(self._topics.up(self._me.device), encode(hello))]

    # What is heard

    def _received(self, event: Received, at: Moment) -> list[AgentEffect]:
        address = self._topics.parse(event.topic)
        if address is None:
            return self._ignored("foreign topic", event.topic)
        try:
            message = decode(event.payload)
        except MessageError as error:
            return self._ignored("malformed message", event.topic, str(error))
        effects = self._message(address, message, event.retained, at)
        if effects is None:
            return self._ignored("unexpected message", event.topic, type(message).__name__)
        return effects

    def _message(
        self, address: Address, message: Message, retained: bool, at: Moment
    ) -> list[AgentEffect] | None:
        """Hand a message to the one it is for; None if it has no business on its topic."""
        if address.device not in ("", self._me.device):
            return None
        match address.place, message:
            case Place.DEVICE, DevicePresence():
                return self._own_presence(message, retained, at)
            case Place.COORDINATOR, CoordinatorPresence():
                return self._coordinator_presence(message, at)
            case Place.MODEL, Header():
                return self._header(message, at)
            case Place.MODEL_CHUNK, Chunk():
                return self.work.chunk(message, address.index, at)
            case Place.DOWN, _:
                return self._down(message, at)
        return None

    def _down(self, message: Message, at: Moment) -> list[AgentEffect] | None:
        match message:
            case DevicePresence() | Hello() | Offer() | Request():
                return None  # a coordinator says no such thing
        self._answered(at)
        match message:
            case Want():
                return self.delivery.want(message, at)
            case Receipt():
                return self.delivery.receipt(message, at)
            case Pace():
                return self.delivery.pace(message, at)
            case Header():
                return self._header(message, at)
            case CoordinatorPresence():
                return self._coordinator_presence(message, at)
            case Chunk():
                return self.work.chunk(message, message.index, at)
        assert_never(message)

    def _ignored(self, why: str, topic: str, detail: str = "") -> list[AgentEffect]:
        self.counts[why] += 1
        level = Level.DEBUG if why == "unexpected message" else Level.WARNING
        return [Log(level, f"{why} ignored", {"topic": topic[:100], "detail": detail[:300]})]

    def _own_presence(
        self, presence: DevicePresence, retained: bool, at: Moment
    ) -> list[AgentEffect]:
        """The last agent to be born under an id keeps it; who finds that it is another one yields.

        A broker may take the older connection down when the newer one comes. Then the older agent
        finds, when it is back, that the last word on its topic is another's: a birth, or a will.
        """
        if presence.process == self._me.process:
            self._birth_heard = True
            if self._birth_s < inf:
                self._birth_s = at.now_s  # nobody else has come: no need to wait longer
            return []
        own_past = presence.outbox == self._me.outbox and presence.incarnation < (
            self._me.boot << 24
        )
        late_will = presence.state is State.OFFLINE and not retained
        if own_past or late_will or not self._birth_heard:
            return []
        text = (
            f"another agent has taken over the device id {self._me.device!r}; "
            "each device needs an id of its own"
        )
        return [Stop(ExitCode.DUPLICATE, text)]

    def _coordinator_presence(self, presence: CoordinatorPresence, at: Moment) -> list[AgentEffect]:
        seen = (presence.ledger, presence.incarnation, presence.state)
        known = self._coordinator
        if known is not None:
            if seen[0] == known[0] and seen[1] < known[1]:
                return []  # a late will of an earlier connection
            if seen[0] != known[0] and presence.state is State.OFFLINE:
                return []  # a late will of an earlier coordinator
        self._coordinator = seen
        if presence.state is State.OFFLINE:
            self.delivery.pause()
            return [Log(Level.INFO, "coordinator offline")]
        if seen == known or not self._linked:
            return []
        self.delivery.resume(at)
        self.work.relink()
        return [Log(Level.INFO, "coordinator online")]

    def _answered(self, at: Moment) -> None:
        """Whoever answers is there, whatever its presence says."""
        self._hello_wait_s = HELLO_S
        self._hello_s = at.now_s + HELLO_S * (1 + at.chance)
        if self._linked and not self.delivery.open:
            self.delivery.resume(at)

    def _header(self, header: Header, at: Moment) -> list[AgentEffect]:
        self._hello_s = at.now_s + HELLO_S * (1 + at.chance)
        return self.work.announced(header) or []
