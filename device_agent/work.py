"""The work of a device: wait for a version, fetch it, train on it.

    WAITING --header, invited, room in the outbox--> FETCHING --all chunks--> TRAINING --> WAITING

It is done once for each version; again only while nobody is there to give a new one. What would be
refused as stale is dropped; what a full disk or an unfit machine interrupts is gone on with later.
"""

from __future__ import annotations

from enum import Enum
from math import inf

from config.settings import Transfer
from device_agent.fetching import Fetch
from device_agent.headers import VersionKey, fault_of, is_hopeless, is_news, is_same, key_of
from device_agent.storage import Lack, Milestone, retry_at
from device_agent.vocabulary import (
    Abandon,
    AgentEffect,
    Commit,
    Pause,
    Prepare,
    Prepared,
    StoreChunk,
    Train,
    TrainingBegun,
    TrainingEnded,
    TrainingFailed,
    TrainingStalled,
)
from federation.invitation import is_invited
from federation.machine import Level, Log, Moment
from federation.messages import Chunk, Header
from federation.topics import Topics

RETRY_TRAINING_S = 30.0
ATTEMPTS_PER_VERSION = 3
VAIN_REQUESTS = 4


class Phase(Enum):
    """What a device is doing for the federation."""

    WAITING = "waiting"
    FETCHING = "fetching"
    TRAINING = "training"


class Work:
    """The newest version that was heard of, and the one that is being worked on."""

    def __init__(
        self,
        device: str,
        task: str,
        topics: Topics,
        transfer: Transfer,
        done: VersionKey | None,
        remembered: Header | None,
        seen: Header | None = None,
        begun: Header | None = None,
        *,
        sealed: bool = False,
    ) -> None:
        """Begin where the last start ended; what the arguments mean, `AgentCore` tells."""
        self.phase = Phase.WAITING
        self.newest: Header | None = remembered
        self.current: Header | None = None
        self._device = device
        self._task = task
        self._topics = topics
        self._transfer = transfer
        self._fetch: Fetch | None = None
        self._done = done
        self._seen = seen
        self._sealed = sealed
        self._hopeless: VersionKey | None = None
        self._declined: Header | None = None
        self._paused = None if begun is None or key_of(begun) == done else begun
        self.is_held_back = False
        self._failures, self._retry_s = 0, -inf
        self._lack = Lack()
        self._is_trained = False
        self._uncommitted: Commit | None = None
        self._commit_s = inf

    @property
    def lacking(self) -> str:
        """What could not be written, as the disk is full; empty if nothing waits for room."""
        return self._lack.what

    def due_s(self, linked: bool) -> float:
        """When there is something to do though nothing happens."""
        if self._uncommitted is not None:
            return self._commit_s
        if self.phase is Phase.WAITING and self._retry_s > -inf:
            return self._retry_s
        return self._fetch.due_s if self._fetch is not None and linked else inf

    def announced(self, header: Header) -> list[AgentEffect] | None:
        """A header came; None if it tells nothing new."""
        if not is_news(header, self.newest, self._seen):
            return None
        self.newest = header
        self._failures, self._retry_s = 0, -inf
        told = Log(Level.INFO, "version announced", {"version": header.version})
        return [told, *self._drop_hopeless(header)]

    def go_on(
        self, has_room: bool, linked: bool, at: Moment, *, fit: bool = True, again: bool = False
    ) -> list[AgentEffect]:
        """Whatever can be begun or is due now.

        Args:
            has_room: whether the outbox could take an update.
            fit: whether the machine may train now.
            again: whether to train on the newest version though it has been done.
        """
        effects: list[AgentEffect] = []
        self.is_held_back = False
        if self.phase is Phase.WAITING and has_room:
            effects += self._begin(at, fit, again)
        if self._fetch is not None:
            effects += self._fetch_on(self._fetch, linked, at)
            if self.phase is Phase.WAITING and has_room:  # given up for a newer version
                effects += self._begin(at, fit, again)
        if self._uncommitted is not None and at.now_s >= self._commit_s:
            effects.append(self._uncommitted)
            self._commit_s = inf  # never twice: first it must be known what became of it
        if self.phase is Phase.WAITING and self._retry_s == -inf and not self.is_held_back:
            self._lack.end()  # nothing is to be written
        return effects

    def pause(self, why: str) -> list[AgentEffect]:
        """The machine may not train any more: save what is under way."""
        if self.phase is not Phase.TRAINING or self._is_trained:
            return []
        self._paused = self.current
        self._rest()
        return [Pause(), Log(Level.INFO, "training paused", {"reason": why})]

    def prepared(self, event: Prepared) -> None:
        """The store is ready: fetch what it lacks."""
        if self.phase is Phase.FETCHING and self.current and is_same(event.header, self.current):
            self._fetch = Fetch(
                self.current, event.held, self._topics, self._device, self._transfer
            )

    def chunk(self, chunk: Chunk, index: int, at: Moment) -> list[AgentEffect] | None:
        """A chunk of a model came; None if it is not one that is missing."""
        return self._fetch.chunk(chunk, index, at) if self._fetch is not None else None

    def relink(self) -> None:
        """The link or the coordinator is new: what was asked for may never come."""
        if self._fetch is not None:
            self._fetch.relink()

    def begun(self, event: TrainingBegun) -> None:
        """The worker has begun."""
        if self._is_training(event.version):
            self._lack.reached(Milestone.BEGUN)

    def stalled(self, event: TrainingStalled) -> None:
        """The worker waits for room, and goes on by itself."""
        if self._is_training(event.version):
            self._lack.begin(f"the update on version {event.version}", Milestone.COMMITTED)

    def ended(self, event: TrainingEnded) -> list[AgentEffect]:
        """Training brought an update: into the outbox with it."""
        if not self._is_training(event.version):
            return []
        assert self.current is not None
        self._is_trained = True
        return [Commit(self.current, event)]

    def failed(self, event: TrainingFailed, at: Moment) -> list[AgentEffect]:
        """Training brought nothing: try again in a while, but not for ever."""
        if not self._is_training(event.version):
            return []
        assert self.current is not None
        if event.storage_full:
            self._wait_for_room(event.reason, Milestone.COMMITTED, at)
            return []
        self._lack.end()
        self._failures += 1
        if self._failures < ATTEMPTS_PER_VERSION:
            self._retry_s = at.now_s + RETRY_TRAINING_S * (0.5 + at.chance)
        else:
            self._hopeless = key_of(self.current)
        self._rest()
        facts = {"version": event.version, "reason": event.reason}
        return [Log(Level.ERROR, "training failed", facts)]

    def committed(self, key: VersionKey) -> None:
        """The update on this version is in the outbox: the work on it is done."""
        self._done = key
        if self.current is not None and key_of(self.current) == key:
            self._rest()
            self._lack.end()

    def refused(
        self, effect: Prepare | StoreChunk | Train | Commit, at: Moment
    ) -> list[AgentEffect]:
        """The disk had no room for something: do it again in a while."""
        current = self.current
        if current is None or not is_same(effect.header, current):
            return []
        version = f"version {current.version}"
        match effect:
            case Prepare() | StoreChunk():
                # The last chunk may have been refused, and training have begun already.
                effects: list[AgentEffect] = [] if self._fetch is None else self._fetch.close()
                if self.phase is Phase.TRAINING:
                    effects.append(Abandon())
                self._wait_for_room(version, Milestone.FETCHED, at)
                return effects
            case Train():
                self._wait_for_room(f"an update on {version}", Milestone.BEGUN, at)
            case Commit():
                self._lack.begin(f"the update on {version}", Milestone.COMMITTED)
                self._uncommitted, self._commit_s = effect, retry_at(at)
        return []

    def room_made(self, at: Moment) -> None:
        """An update was deleted: what waits for room need not wait longer."""
        if self._uncommitted is not None and self._commit_s < inf:
            self._commit_s = at.now_s
        elif self.lacking and self._retry_s > -inf:
            self._retry_s = at.now_s

    def _wait_for_room(self, what: str, until: Milestone, at: Moment) -> None:
        self._lack.begin(what, until)
        self._rest()
        self._retry_s = retry_at(at)

    def _begin(self, at: Moment, fit: bool, again: bool) -> list[AgentEffect]:
        header = self._paused or self.newest
        if header is None or at.now_s < self._retry_s:
            return []
        self._retry_s = -inf
        is_done = self._done == key_of(header) and not again
        if is_done or self._declined is header or self._hopeless == key_of(header):
            return []
        if (fault := fault_of(header, self._task, sealed=self._sealed)) is not None:
            self._declined, self._paused = header, None
            return [Log(Level.ERROR, "version cannot be used", {"fault": fault})]
        if not is_invited(self._device, header.version, header.draw, header.invited):
            self._declined, self._paused = header, None
            return [Log(Level.INFO, "not invited", {"version": header.version})]
        if not fit:
            self.is_held_back = True
            return []
        self._paused = None
        self.phase = Phase.FETCHING
        self.current = header
        return [Prepare(header)]

    def _fetch_on(self, fetch: Fetch, linked: bool, at: Moment) -> list[AgentEffect]:
        header = fetch.header
        if fetch.complete:
            self._fetch = None
            self.phase = Phase.TRAINING
            self._lack.reached(Milestone.FETCHED)
            facts = {"version": header.version, "bytes": header.payload.size}
            return [*fetch.close(), Log(Level.INFO, "version fetched", facts), Train(header)]
        if not linked:
            return []
        assert self.newest is not None
        if fetch.requests > VAIN_REQUESTS and not is_same(self.newest, header):
            self._rest()
            told = Log(Level.INFO, "version given up", {"version": header.version})
            return [*fetch.close(), told]
        return fetch.hurry(at) + fetch.advance(at)

    def _drop_hopeless(self, newest: Header) -> list[AgentEffect]:
        if self._paused is not None and is_hopeless(self._paused, newest):
            self._paused = None
        current = self.current
        if current is None or not is_hopeless(current, newest):
            return []
        effects: list[AgentEffect] = []
        if self._fetch is not None:
            effects += self._fetch.close()
        if self.phase is Phase.TRAINING:
            effects.append(Abandon())
        self._rest()
        return [*effects, Log(Level.INFO, "version overtaken", {"version": current.version})]

    def _is_training(self, version: int) -> bool:
        current = self.current
        return self.phase is Phase.TRAINING and current is not None and current.version == version

    def _rest(self) -> None:
        self.phase = Phase.WAITING
        self.current = None
        self._fetch = None
        self._is_trained = False
        self._uncommitted = None
