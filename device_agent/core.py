"""Every transition of a device agent begins here: an event comes in, effects go out.

Work (wait for a version, fetch it, train on it) and delivery (offer what came of it until it is
judged) go on side by side; presence, disk, machine, budget and silence have modules of their own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import inf
from typing import assert_never

from config.settings import Transfer
from device_agent.budget import Budget
from device_agent.counterpart import Counterpart, Word
from device_agent.delivery import Delivery
from device_agent.fitness import Fitness
from device_agent.headers import VersionKey, message_of
from device_agent.presence import Presence, Self
from device_agent.silence import Silence, hello_of
from device_agent.solitude import Solitude
from device_agent.storage import Storage
from device_agent.vocabulary import (
    AgentEffect,
    AgentEvent,
    Commit,
    Committed,
    Forget,
    Forgotten,
    Looked,
    Prepare,
    Prepared,
    StoreChunk,
    Train,
    TrainingBegun,
    TrainingEnded,
    TrainingFailed,
    TrainingStalled,
)
from device_agent.work import Phase, Work
from federation.machine import (
    Level,
    Linked,
    Log,
    Moment,
    Publish,
    Received,
    StorageFull,
    Tick,
    Unlinked,
    ignored,
)
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
    Want,
    encode,
)
from federation.topics import Address, Place, Topics


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
        place: str = "the state directory",
        alone_after_s: float = inf,
        budget: Budget | None = None,
        seen: Header | None = None,
        begun: Header | None = None,
        *,
        sealed: bool = False,
    ) -> None:
        """Begin where the disk says the last start ended.

        Args:
            offers: the updates in the outbox.
            trained: ledger and version of the newest update that was ever committed.
            remembered: the version that lies in the store, whole: it can be trained on at once.
            place: where room is to be made when the disk is full, for people.
            alone_after_s: how long nobody was heard before it trains again on what it has.
            seen: the last version that was begun to be fetched: no earlier one is believed.
            begun: the version that an earlier start was training on: it comes before newer ones.
            sealed: whether it gives its updates away only sealed.
            budget: how many updates may still be made; None bounds them not.
        """
        self.counts: Counter[str] = Counter()
        self.delivery = Delivery(topics.up(me.device), offers, transfer.silence_s)
        self.presence = Presence(me, topics.device(me.device))
        self.storage = Storage(place)
        self.fitness = Fitness()
        self.budget = budget or Budget()
        self.solitude = Solitude(alone_after_s)
        self._silence = Silence(transfer.patience_s)
        self.work = Work(
            me.device, me.task, topics, transfer, trained, remembered, seen, begun, sealed=sealed
        )
        self._me, self._topics, self._outbox_limit = me, topics, outbox_limit
        self.linked, self._incarnation = False, 0
        self._coordinator = Counterpart()

    def handle(self, event: AgentEvent, at: Moment) -> list[AgentEffect]:
        """Take one event; the effects are to be carried out in order."""
        effects = self._take(event, at)
        self.solitude.advance(at)
        effects += self._work_on(at)
        effects += self.storage.advance(self.work.lacking, at)
        self.presence.pause(self.storage.paused or self.budget.paused or self.fitness.paused, at)
        if self.linked:
            effects += self.presence.advance(at)
            effects += self.delivery.advance(at)
            if self._silence.is_long(at):
                hello = hello_of(self._incarnation, self.work.newest)
                effects.append(Publish(self._topics.up(self._me.device), encode(hello)))
        return effects

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`, on the clock of its moments; infinity if never."""
        presence_s = min(self.presence.due_s, self._silence.due_s) if self.linked else inf
        work_s = min(self.work.due_s(self.linked), self.fitness.due_s, self.solitude.due_s)
        return min(self.delivery.due_s, work_s, self.storage.due_s, presence_s)

    def validate(self) -> None:
        """The invariants, for tests: call after every event."""
        assert (self.work.phase is Phase.WAITING) == (self.work.current is None)
        assert len(self.delivery) <= self._outbox_limit
        assert self.linked or self.delivery.due_s == inf
        assert self.storage.full or not self.work.lacking

    def _take(self, event: AgentEvent, at: Moment) -> list[AgentEffect]:
        match event:
            case Received():
                return self._received(event, at)
            case Tick():
                return []
            case Linked():
                return self._link_up(event, at)
            case Unlinked():
                self.linked = False
                self.delivery.pause()
                self.solitude.begins(at)
                return [Log(Level.WARNING, "link down", {"reason": event.reason})]
            case StorageFull():
                return self._storage_full(event.effect, at)
            case Prepared():
                self.work.prepared(event)
                return []
            case TrainingBegun():
                self.work.begun(event)
                return []
            case TrainingStalled():
                self.work.stalled(event)
                return []
            case TrainingEnded():
                return self.work.ended(event)
            case TrainingFailed():
                return self.work.failed(event, at)
            case Committed():
                self.work.committed((event.offer.ledger, event.offer.base_version))
                return [*self.budget.made(), *self.delivery.add(event.offer, at)]
            case Forgotten():
                self.storage.forgotten(event.sequence)
                self.delivery.forgotten(event.sequence)
                self.work.room_made(at)
                return []
            case Looked():
                self.fitness.looked(event, at)
                return self.work.pause(event.hindrance) if event.hindrance else []
        assert_never(event)

    def _work_on(self, at: Moment) -> list[AgentEffect]:
        work, newest = self.work, self.work.newest
        has_room = self.delivery.has_room(newest, self._outbox_limit) and not self.budget.paused
        again = self.solitude.is_long and newest is not None and self.delivery.may_add(newest)
        effects = work.go_on(has_room, self.linked, at, fit=self.fitness.may_train(at), again=again)
        matters = work.phase is Phase.TRAINING or work.is_held_back
        return [*effects, *self.fitness.advance(matters, at)]

    def _storage_full(self, effect: object, at: Moment) -> list[AgentEffect]:
        match effect:
            case Prepare() | StoreChunk() | Train() | Commit():
                return self.work.refused(effect, at)
            case Forget():
                self.storage.kept(effect, at)
        return []  # the rest deletes at most

    def _link_up(self, event: Linked, at: Moment) -> list[AgentEffect]:
        self.linked = True
        self._incarnation = event.incarnation
        self._silence.link_up(at)
        self.solitude.begins(at)
        self.delivery.resume(at, spread_s=0)  # the reconnections are spread already
        self.work.relink()
        self.presence.link_up(event.incarnation, at)
        return [Log(Level.INFO, "link up")]

    def _received(self, event: Received, at: Moment) -> list[AgentEffect]:
        address = self._topics.parse(event.topic)
        if address is None:
            return self._ignored("foreign topic", event)
        try:
            message = message_of(event)
        except MessageError as error:
            return self._ignored("malformed message", event, str(error))
        effects = self._message(address, message, event.retained, at)
        name = type(message).__name__
        return self._ignored("unexpected message", event, name) if effects is None else effects

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
                if not retained:
                    self._answered(at)  # a will may have been told too early
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
            case Chunk():  # not signed: whether it is the coordinator's, its digest tells
                if (taken := self.work.chunk(message, message.index, at)) is not None:
                    self._answered(at)
                return taken
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
        assert_never(message)

    def _ignored(self, why: str, heard: Received, detail: str = "") -> list[AgentEffect]:
        self.counts[why] += 1
        return [ignored(why, heard.topic, detail)]

    def _coordinator_presence(self, presence: CoordinatorPresence, at: Moment) -> list[AgentEffect]:
        word = self._coordinator.heard(presence)
        if word is Word.GONE:
            self.solitude.begins(at)
            self.delivery.pause()
            return [Log(Level.INFO, "coordinator offline")]
        if word is Word.LATE or not self.linked:
            return []
        self.solitude.ends()
        if word is Word.STILL_HERE:
            return []
        self.delivery.resume(at)
        self.work.relink()
        self.presence.coordinator_came(at)
        return [Log(Level.INFO, "coordinator online")]

    def _answered(self, at: Moment) -> None:  # whoever answers is there
        self._silence.answered(at)
        self.solitude.ends()
        if self.linked and not self.delivery.open:
            self.delivery.resume(at)

    def _header(self, header: Header, at: Moment) -> list[AgentEffect]:
        effects = self.work.announced(header)
        self._silence.header(effects is not None, at)
        return effects or []
