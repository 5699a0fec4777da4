"""Every transition of a device agent begins here: an event comes in, effects go out.

Two things go on side by side, each in a module of its own. Work: wait for a version, fetch it,
train on it. Delivery: offer what came of it until the coordinator has judged it. Work goes on
without a link; delivery goes on without work. A third module keeps the device's presence. This one
routes what is heard to them, and asks for the header when it is silent for long.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import assert_never

from config.settings import Transfer
from device_agent.delivery import Delivery
from device_agent.presence import Presence, Self
from device_agent.vocabulary import (
    AgentEffect,
    AgentEvent,
    Committed,
    Prepared,
    TrainingEnded,
    TrainingFailed,
)
from device_agent.work import Phase, VersionKey, Work
from federation.machine import Level, Linked, Log, Moment, Publish, Received, Tick, Unlinked
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
        remembered: Header | None = None,
    ) -> None:
        """Begin where the disk says the last start ended.

        Args:
            offers: the updates in the outbox.
            trained: ledger and version of the newest update that was ever committed.
            remembered: the version that lies in the store, whole: it can be trained on at once.
        """
        self.counts: Counter[str] = Counter()
        self.delivery = Delivery(topics.up(me.device), offers, transfer.silence_s)
        self.presence = Presence(me, topics.device(me.device))
        self.work = Work(me.device, me.task, topics, transfer, trained, remembered)
        self._me = me
        self._topics = topics
        self._transfer = transfer
        self._outbox_limit = outbox_limit
        self._linked = False
        self._incarnation = 0
        self._coordinator: tuple[bytes, int, State] | None = None
        self._header_heard = False
        self._hello_s = inf
        self._hello_wait_s = HELLO_S

    def handle(self, event: AgentEvent, at: Moment) -> list[AgentEffect]:
        """Take one event; the effects are to be carried out in order."""
        effects = self._take(event, at)
        has_room = len(self.delivery) < self._outbox_limit
        effects += self.work.go_on(has_room, self._linked, at)
        if self._linked:
            effects += self.presence.advance(at)
            effects += self.delivery.advance(at)
            effects += self._say_hello(at)
        return effects

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`, on the clock of its moments; infinity if never."""
        presence_s = min(self.presence.due_s, self._hello_s) if self._linked else inf
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
        self._header_heard = False
        self._hello_s = at.now_s + self._transfer.patience_s * (1 + at.chance)
        self.delivery.resume(at)
        self.work.relink()
        self.presence.link_up(event.incarnation, at)
        return [Log(Level.INFO, "link up")]

    def _say_hello(self, at: Moment) -> list[AgentEffect]:
        if at.now_s < self._hello_s:
            return []
        self._hello_s = at.now_s + self._hello_wait_s * (0.75 + 0.5 * at.chance)
        self._hello_wait_s = min(HELLO_CAP_S, 2 * self._hello_wait_s)
        known = self.work.newest
        hello = Hello(
            incarnation=self._incarnation,
            ledger=known.ledger if known else None,
            boot=known.boot if known else 0,
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
                return self.presence.heard(message, retained, at)
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
        """Whoever answers is there, whatever its presence says.

        It never puts the next hello off: a word that somebody repeats could do so for ever.
        """
        self._hello_wait_s = HELLO_S
        self._hello_s = min(self._hello_s, at.now_s + HELLO_S * (1 + at.chance))
        if self._linked and not self.delivery.open:
            self.delivery.resume(at)

    def _header(self, header: Header, at: Moment) -> list[AgentEffect]:
        effects = self.work.announced(header)
        if effects is not None or not self._header_heard:
            self._header_heard = True
            self._hello_s = at.now_s + HELLO_S * (1 + at.chance)
        return effects or []
