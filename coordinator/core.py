"""Every transition of the coordinator begins here: an event comes in, effects go out.

Three things go on side by side. Updates: offers are taken in and judged (`ingestion`). Versions:
accepted updates wait until the trigger fires, are combined, and the new version is announced
(`progression`). Presence: who is there (`roster`), and that there is only one coordinator. This
module routes what is heard to them.
"""

from __future__ import annotations

from collections import Counter
from math import inf
from typing import assert_never

from config.settings import CoordinatorSettings
from coordinator.ingestion import Ingestion
from coordinator.judgement import Judgement
from coordinator.presence import Rivals, Self
from coordinator.progression import Progression
from coordinator.roster import Roster
from coordinator.storage import Storage
from coordinator.uploads import Uploads
from coordinator.vocabulary import (
    Combine,
    Combined,
    CoordinatorEffect,
    CoordinatorEvent,
    Evaluated,
    Judge,
    Judged,
    OpenUpload,
    QuarantineChanged,
    Recollection,
    Screen,
    Screened,
    ServeChunk,
    UploadOpened,
    WriteChunk,
)
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
    Hello,
    Message,
    MessageError,
    Offer,
    Request,
    State,
    decode,
    encode,
)
from federation.topics import Address, Place, Topics

__all__ = ["GRACE_S", "CoordinatorCore", "Self"]

GRACE_S = 0.5


class CoordinatorCore:
    """The pure coordinator: `handle` is its only way to change."""

    def __init__(
        self, me: Self, topics: Topics, settings: CoordinatorSettings, memory: Recollection
    ) -> None:
        """Begin where the ledger says the last start ended."""
        self.counts: Counter[str] = Counter()
        self.progression = Progression(settings, memory, me.boot)
        self.uploads = Uploads(topics, settings.transfer, settings.uploads)
        self.roster = Roster()
        self.judgement = Judgement(topics, memory.settled)
        self.storage = Storage()
        self._ingestion = Ingestion(
            me.ledger, settings, self.uploads, self.judgement, self.progression, self.storage
        )
        self._me = me
        self._topics = topics
        self._rivals = Rivals(me, topics, take_over=settings.take_over)
        self._settings = settings
        self._incarnation: int | None = None
        self._born = False
        self._birth_s = inf

    def handle(self, event: CoordinatorEvent, at: Moment) -> list[CoordinatorEffect]:
        """Take one event; the effects are to be carried out in order."""
        self.storage.advance(at)
        effects = self._take(event, at)
        if self.linked and at.now_s >= self._birth_s:
            effects += self._be_born(at)
        if not self.storage.blocked:
            working, news = self.roster.working, self.roster.news()
            effects += self.progression.go_on(working, self.linked, at, news)
        effects += self.uploads.expire(at)
        for device in self.roster.expire(at):
            effects.append(Log(Level.INFO, "device did not come back", {"device": device}))
        return effects

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`, on the clock of its moments; infinity if never."""
        birth_s = self._birth_s if self.linked else inf
        storage = self.storage
        progress_s = storage.retry_s if storage.blocked else self.progression.due_s
        return min(birth_s, progress_s, self.uploads.due_s, self.roster.due_s)

    def validate(self) -> None:
        """The invariants, for tests: call after every event."""
        ids = [accepted.id for accepted in self.progression.buffer]
        assert len(set(ids)) == len(ids)
        assert all(self.judgement.is_settled(id) for id in ids)

    @property
    def linked(self) -> bool:
        """Whether there is a link to the broker."""
        return self._incarnation is not None

    def _take(self, event: CoordinatorEvent, at: Moment) -> list[CoordinatorEffect]:
        match event:
            case Received():
                return self._received(event, at)
            case Tick():
                return []
            case Linked():
                return self._link_up(event, at)
            case Unlinked():
                self._incarnation = None
                return [Log(Level.WARNING, "link down", {"reason": event.reason})]
            case StorageFull():
                return self._storage_full(event.effect, at)
            case UploadOpened():
                return self.uploads.opened(event.id, event.held, at)
            case Screened():
                return self._ingestion.screened(event)
            case Judged():
                return self._ingestion.judged(event.verdict, at)
            case Combined():
                told = self.storage.worked()
                return told + self.progression.combined(event, self.linked, at)
            case Evaluated():
                return self.progression.evaluated(event)
            case QuarantineChanged():
                return self.progression.quarantine(event.entries)
        assert_never(event)

    def _storage_full(self, effect: object, at: Moment) -> list[CoordinatorEffect]:
        """What was to be kept was not: it is offered again, or made again, in a while."""
        match effect:
            case OpenUpload() | WriteChunk() | Screen() | Judge():
                self.uploads.forget(effect.id)
            case Combine():
                self.progression.combine_failed()
        return self.storage.failed(effect, at)

    # The link

    def _link_up(self, event: Linked, at: Moment) -> list[CoordinatorEffect]:
        self._incarnation = event.incarnation
        self.roster.relinked(at)
        # The first time, a coordinator that is there already has to be heard first.
        self._birth_s = at.now_s if self._born else at.now_s + GRACE_S
        return [Log(Level.INFO, "link up")]

    def _be_born(self, at: Moment) -> list[CoordinatorEffect]:
        """Tell everyone that the coordinator is there, and what the current version is."""
        assert self._incarnation is not None
        self._birth_s = inf
        self._born = True
        birth = self._me.presence(State.ONLINE, self._incarnation)
        told = Publish(self._topics.coordinator, encode(birth), retain=True)
        return [told, *self._announce_when_enough(at)]

    def _announce_when_enough(self, at: Moment) -> list[CoordinatorEffect]:
        enough = len(self.roster.online) >= self._settings.aggregation.wait_for
        return self.progression.announce(at) if self.progression.announced or enough else []

    # What is heard

    def _received(self, event: Received, at: Moment) -> list[CoordinatorEffect]:
        address = self._topics.parse(event.topic)
        if address is None:
            return self._ignored("foreign topic", event.topic)
        if not event.payload and address.place is Place.DEVICE:
            # Its retained presence was cleared, or it was revoked.
            was_here = address.device in self.roster.online
            self.roster.gone(address.device)
            return self._came_or_went(address.device, State.OFFLINE, at) if was_here else []
        try:
            message = decode(event.payload)
        except MessageError as error:
            return self._ignored("malformed message", event.topic, str(error))
        effects = self._message(address, message, at)
        if effects is None:
            return self._ignored("unexpected message", event.topic, type(message).__name__)
        return effects

    def _message(
        self, address: Address, message: Message, at: Moment
    ) -> list[CoordinatorEffect] | None:
        """Hand a message to the one it is for; None if it has no business on its topic."""
        if address.place is Place.UP:
            self.roster.worked(address.device)
        match address.place, message:
            case Place.COORDINATOR, CoordinatorPresence():
                return self._own_presence(message)
            case Place.DEVICE, DevicePresence():
                return self._device_presence(address.device, message, at)
            case Place.UP, Hello():
                return self._hello(address.device, message, at)
            case Place.UP, Offer():
                return self._ingestion.offer(address.device, message, at)
            case Place.UP, Chunk():
                return self.uploads.chunk(address.device, message, at)
            case Place.UP, Request():
                return self._request(address.device, message)
        return None

    def _ignored(self, why: str, topic: str, detail: str = "") -> list[CoordinatorEffect]:
        self.counts[why] += 1
        return [ignored(why, topic, detail)]

    def _own_presence(self, presence: CoordinatorPresence) -> list[CoordinatorEffect]:
        stop = self._rivals.heard(presence, born=self._born)
        return [] if stop is None else [stop]

    def _device_presence(
        self, device: str, presence: DevicePresence, at: Moment
    ) -> list[CoordinatorEffect]:
        if presence.task not in ("", self._settings.task):
            facts = {"device": device, "task": presence.task}
            return [Log(Level.WARNING, "device has another task", facts)]
        before = self.roster.connection(device)
        changed = self.roster.heard(device, presence)
        if self.roster.connection(device) != before:
            self.uploads.relinked(device)
        effects = self._came_or_went(device, presence.state, at) if changed else []
        if device in self.roster.online and self.roster.pauses(device, presence.paused):
            text = "device paused" if presence.paused else "device goes on"
            effects.append(Log(Level.INFO, text, {"device": device, "reason": presence.paused}))
        return effects

    def _came_or_went(self, device: str, state: State, at: Moment) -> list[CoordinatorEffect]:
        facts = {"device": device, "online": len(self.roster.online)}
        told = Log(Level.INFO, f"device {state}", facts)
        waiting = self._born and not self.progression.announced
        return [told, *(self._announce_when_enough(at) if waiting else [])]

    def _hello(self, device: str, hello: Hello, at: Moment) -> list[CoordinatorEffect]:
        """Answer with the header if the device lacks it, else with a sign of life."""
        effects: list[CoordinatorEffect] = []
        if self.roster.spoke(device, hello.incarnation):
            effects += self._came_or_went(device, State.ONLINE, at)
        if not self.progression.announced or self._incarnation is None:
            return effects
        header = self.progression.header()
        known = (hello.boot, hello.version, hello.draw)
        if hello.ledger != header.ledger or known != header.age:
            answer = encode(header)
        else:
            answer = encode(self._me.presence(State.ONLINE, self._incarnation))
        return [*effects, Publish(self._topics.down(device), answer)]

    def _request(self, device: str, request: Request) -> list[CoordinatorEffect]:
        topic = self._topics.down(device)
        return [ServeChunk(topic, request.version, index) for index in request.chunks]
