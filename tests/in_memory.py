"""A whole federation in memory and virtual time: the real cores on shells that keep dicts.

A party's `disk` outlives it: kill the party, start another on the same disk. Everything that a
real shell does with files happens here with dicts, at the same places in the order of effects.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from config.settings import CoordinatorSettings, Transfer
from coordinator import core as coordinator_core
from coordinator import vocabulary as cv
from device_agent import core as agent_core
from device_agent import presence
from device_agent import vocabulary as av
from federation.layout import Layout, TensorSpec
from federation.loopback import Faults, LoopbackBroker, LoopbackSession
from federation.machine import Log, Moment, Publish, Stop, Subscribe, Tick, Unsubscribe
from federation.messages import Chunk, Header, Offer, State, encode
from federation.sealing import key_id
from federation.session import Identity, Inbox
from federation.sizes import encoded_size, size_bounds
from federation.topics import Topics
from federation.transfer import chunk_digest, manifest_of
from federation.virtual_time import VirtualTime
from tests.trust import Trust

TOPICS = Topics("flockwise", "test")
NO_FAULTS = Faults()
LAYOUT = Layout((TensorSpec("w", (30, 50)),))


@dataclass
class CoordinatorDisk:
    ledger: bytes = b"ledger-1"
    boots: int = 0
    settled: dict[tuple[str, bytes], int] = field(default_factory=dict)
    entered: dict[cv.UpdateId, cv.Accepted] = field(default_factory=dict)
    refused: dict[cv.UpdateId, str] = field(default_factory=dict)
    applied: dict[cv.UpdateId, int] = field(default_factory=dict)
    aside: set[cv.UpdateId] = field(default_factory=set)
    quarantine: dict[str, cv.Entry] = field(default_factory=dict)
    spool: dict[cv.UpdateId, dict[int, bytes]] = field(default_factory=dict)
    versions: list[bytes] = field(default_factory=list)
    founded: int = 0
    believed: dict[cv.UpdateId, tuple[Offer, bytes]] = field(default_factory=dict)


@dataclass
class AgentDisk:
    outbox: bytes
    boots: int = 0
    next_sequence: int = 0
    offers: dict[int, Offer] = field(default_factory=dict)
    payloads: dict[int, bytes] = field(default_factory=dict)
    trained: tuple[bytes, int] | None = None
    store: dict[tuple[int, int], bytes] = field(default_factory=dict)
    header: Header | None = None
    committed: list[int] = field(default_factory=list)
    made: dict[int, tuple[Offer, bytes]] = field(default_factory=dict)  # as it was before sealing


class Party:
    """What the two kinds of shell share: an inbox, a core, timers, one effect after another."""

    core: Any
    session: Any  # `wire`, or in a secured world one around it
    wire: LoopbackSession

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped: Stop | None = None
        self.logs: list[Log] = []
        self._timer = 0

    def inbox(self, event: Any) -> None:
        self.world.time.call_in(0, lambda: self.handle(event))

    def connect(self, identity: Identity) -> None:
        """Make the session, and what carries its bytes."""

        def bare(identity: Identity, inbox: Inbox) -> LoopbackSession:
            self.wire = LoopbackSession(self.world.broker, identity, inbox)
            return self.wire

        trust = self.world.trust
        if trust is None:
            self.session = bare(identity, self.inbox)
        else:
            self.session = trust.session(bare, identity, self)

    def later(self, delay_s: float, event: Any) -> None:
        self.world.time.call_in(delay_s, lambda: self.handle(event))

    def handle(self, event: Any) -> None:
        if not self.alive or self.stopped:
            return
        at = Moment(self.world.time.now_s, self.world.random.random())
        effects = self.core.handle(event, at)
        self.core.validate()
        self.world.took(self, event, effects)
        for effect in effects:
            self.carry_out(effect)
            if self.world.kills_after(self, effect):
                return
        self._timer += 1
        timer = self._timer
        due_s = self.core.next_tick_s
        if due_s < float("inf"):
            due_s = max(due_s, at.now_s + 1e-3)
            self.world.time.call_at(due_s, lambda: self._tick(timer))

    def _tick(self, timer: int) -> None:
        if timer == self._timer:
            self.handle(Tick())

    def carry_out(self, effect: Any) -> None:
        match effect:
            case Publish():
                self.session.publish(effect)
            case Subscribe():
                self.session.subscribe(effect.topics)
            case Unsubscribe():
                self.session.unsubscribe(effect.topics)
            case Log():
                self.logs.append(effect)
            case Stop():
                self.stopped = effect
                self.session.stop()
            case _:
                self.do(effect)

    def do(self, effect: Any) -> None:
        raise NotImplementedError

    def kill(self) -> None:
        self.alive = False
        self.wire.vanish()


class Agent(Party):
    def __init__(self, world: World, device: str, disk: AgentDisk, *, start: bool = True) -> None:
        super().__init__(world, device)
        self.device = device
        self.disk = disk
        disk.boots += 1
        process = world.random.randbytes(8)
        self.me = presence.Self(device, disk.outbox, process, disk.boots, "task", "test")
        header = disk.header
        whole = header and len(self.held(header)) == header.payload.count
        self.core = agent_core.AgentCore(
            self.me,
            TOPICS,
            world.transfer,
            3,
            disk.offers.values(),
            disk.trained,
            header if whole else None,
            seen=header,
            sealed=world.trust is not None,
        )
        self.job: object = None
        identity = Identity(
            f"test-{device}",
            TOPICS.standing_filters(device),
            lambda n: Publish(
                TOPICS.device(device), encode(self.me.presence(State.OFFLINE, n)), retain=True
            ),
            disk.boots,
        )
        self.connect(identity)
        self.inbox(Tick())
        if start:
            self.session.start()

    def held(self, header: Header) -> frozenset[int]:
        return frozenset(i for v, i in self.disk.store if v == header.version)

    def do(self, effect: Any) -> None:
        disk = self.disk
        match effect:
            case av.Prepare(header=header):
                if disk.header is not None and disk.header.ledger != header.ledger:
                    disk.store.clear()
                disk.header = header
                self.later(0.01, av.Prepared(header, self.held(header)))
            case av.StoreChunk(header=header, index=index, data=data):
                disk.store[header.version, index] = data
            case av.Train(header=header):
                whole = b"".join(disk.store[header.version, i] for i in range(header.payload.count))
                assert whole == self.world.ledgers[header.ledger].versions[header.version]
                self.train(header)
            case av.Look():
                self.inbox(av.Looked(""))
            case av.Abandon() | av.Pause():
                self.job = None
            case av.Commit(header=header, outcome=outcome):
                offer = self.commit(header, outcome)
                self.inbox(av.Committed(offer))
            case av.SendChunk(sequence=sequence, index=index):
                offer = disk.offers[sequence]
                start, end = offer.payload.extent(index)
                data = disk.payloads[sequence][start:end]
                chunk = Chunk(sequence, index, data).encode()
                self.session.publish(Publish(TOPICS.up(self.device), chunk, qos=0))
            case av.Forget(sequence=sequence):
                del disk.offers[sequence], disk.payloads[sequence]

    def train(self, header: Header) -> None:
        self.job = job = object()
        ended = av.TrainingEnded(header.version, 10, 5, 1.0, {"loss": 1.0})

        def end() -> None:
            if self.job is job and self.world.training:
                self.handle(ended)

        self.world.time.call_in(self.world.training_s(self.device), end)

    def commit(self, header: Header, outcome: av.TrainingEnded) -> Offer:
        disk = self.disk
        sequence = disk.next_sequence
        made = payload = self.content(header, sequence)
        trust = self.world.trust
        if trust is not None:
            made, payload = trust.sealed(self.device, disk.outbox, sequence, header)
        offer = Offer(
            outbox=disk.outbox,
            sequence=sequence,
            ledger=header.ledger,
            base_version=header.version,
            codec=header.plan.codec,
            payload=manifest_of(payload, self.world.transfer.chunk_bytes),
            examples=outcome.examples,
            steps=outcome.steps,
            train_s=outcome.train_s,
            metrics=outcome.metrics,
            seal=b"" if trust is None else key_id(header.seal),
        )
        disk.next_sequence += 1
        disk.made[sequence] = offer, made
        disk.offers[sequence] = offer
        disk.payloads[sequence] = payload
        disk.trained = (header.ledger, header.version)
        disk.committed.append(sequence)
        return offer

    def content(self, header: Header, sequence: int) -> bytes:
        """What a training gives."""
        size = size_bounds(header.plan.codec, LAYOUT.size)[1]
        return random.Random(f"{self.disk.outbox!r}{sequence}").randbytes(size)


class Coordinator(Party):
    def __init__(self, world: World, disk: CoordinatorDisk, settings: CoordinatorSettings) -> None:
        super().__init__(world, "coordinator")
        self.disk = disk
        self.settings = settings
        disk.boots += 1
        if not disk.versions:
            disk.versions.append(self.payload(0))
        self.me = coordinator_core.Self(disk.ledger, world.random.randbytes(8), disk.boots)
        done = {*disk.applied, *disk.aside}
        waiting = tuple(a for id, a in disk.entered.items() if id not in done)
        memory = cv.Recollection(
            disk.ledger,
            self.info(),
            dict(disk.settled),
            waiting,
            contributed={id.device: version for id, version in disk.applied.items()},
            holders=frozenset((id.device, id.outbox) for id in disk.applied),
            entries=dict(disk.quarantine),
            founded=disk.founded,
            signer=0 if world.trust is None else world.trust.epoch,
            seals=frozenset() if world.trust is None else world.trust.keyring.names,
        )
        self.core = coordinator_core.CoordinatorCore(self.me, TOPICS, settings, memory)
        identity = Identity(
            "test-coordinator",
            TOPICS.standing_filters(),
            lambda n: Publish(
                TOPICS.coordinator, encode(self.me.presence(State.OFFLINE, n)), retain=True
            ),
            disk.boots,
        )
        self.connect(identity)
        self.session.start()

    def payload(self, version: int) -> bytes:
        what = f"{self.disk.ledger!r} {version}"
        return random.Random(what).randbytes(encoded_size("float32", LAYOUT.size))

    def info(self) -> cv.VersionInfo:
        version = len(self.disk.versions) - 1
        manifest = manifest_of(self.disk.versions[version], self.settings.transfer.chunk_bytes)
        trust = self.world.trust
        seal = b"" if trust is None else trust.keyring.current
        return cv.VersionInfo(version, "float32", manifest, LAYOUT, seal)

    def chunk(self, version: int, index: int) -> bytes:
        payload = self.disk.versions[version]
        size = self.settings.transfer.chunk_bytes
        return Chunk(version, index, payload[index * size : (index + 1) * size]).encode()

    def do(self, effect: Any) -> None:
        disk = self.disk
        match effect:
            case cv.OpenUpload(id=id, payload=manifest):
                pieces = disk.spool.setdefault(id, {})
                held = {i for i in pieces if chunk_digest(pieces[i]) == manifest.digest(i)}
                self.inbox(cv.UploadOpened(id, frozenset(held)))
            case cv.WriteChunk(id=id, offset=offset, data=data):
                disk.spool[id][offset // self.settings.transfer.chunk_bytes] = data
            case cv.DropUpload(id=id):
                disk.spool.pop(id, None)
            case cv.Screen(id=id, offer=offer):
                trust, screened = self.world.trust, cv.Screened(id, 1.0, None)
                if trust is not None:
                    screened = trust.screened(disk.spool, id, offer)
                self.later(0.02, screened)
            case cv.Judge(id=id, offer=offer, refusal=reason):
                assert id not in disk.entered, "entered twice"
                if reason is None:
                    disk.entered[id] = cv.Accepted(id, offer.base_version, offer.examples)
                    disk.settled[id.device, id.outbox] = id.sequence
                    pieces = disk.spool.get(id, {})
                    disk.believed[id] = offer, b"".join(pieces[i] for i in sorted(pieces))
                else:
                    disk.refused[id] = reason
                self.inbox(cv.Judged(effect))
            case cv.Quarantine(device=device, entry=entry):
                disk.quarantine[device] = entry
            case cv.SetAside(ids=ids):
                assert disk.aside.isdisjoint(ids), "set aside twice"
                assert disk.applied.keys().isdisjoint(ids), "set aside after it was applied"
                disk.aside.update(ids)
            case cv.Combine():
                self.world.time.call_in(0.05, lambda: self.combine(effect))
            case cv.Announce(info=info, slot=slot, header=header):
                for index in range(info.payload.count):
                    topic = TOPICS.model_chunk(slot, index)
                    payload = self.chunk(info.version, index)
                    self.session.publish(Publish(topic, payload, qos=0, retain=True))
                self.session.publish(Publish(TOPICS.model, header, retain=True))
            case cv.ServeChunk(topic=topic, version=version, index=index):
                if version < len(disk.versions):
                    self.session.publish(Publish(topic, self.chunk(version, index), qos=0))
            case cv.Evaluate(version=version):
                self.later(0.5, cv.Evaluated(version, {"accuracy": 0.5}))

    def combine(self, effect: cv.Combine) -> None:
        if not self.alive:
            return
        assert len(self.disk.versions) == effect.base_version + 1
        for contribution in effect.contributions:
            assert contribution.id not in self.disk.applied, "applied twice"
            assert contribution.id in self.disk.entered
            assert contribution.id not in self.disk.aside, "applied after it was set aside"
            self.disk.applied[contribution.id] = effect.base_version + 1
        self.disk.versions.append(self.payload(effect.base_version + 1))
        self.handle(cv.Combined(self.info(), effect.contributions))


class World:
    """One broker, one coordinator, some agents, one clock, one seed."""

    agent_kind: type[Agent] = Agent
    coordinator_kind: type[Coordinator] = Coordinator

    def __init__(
        self,
        *,
        devices: int = 3,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        chunk_bytes: int = 1024,
        aggregation: dict[str, Any] | None = None,
        training_s: tuple[float, float] = (5.0, 20.0),
        secured: bool = False,
        **settings: Any,
    ) -> None:
        """Args:
        secured: sign all messages and seal all updates, as roles with a membership do.
        """
        self.trust = Trust(TOPICS, LAYOUT) if secured else None
        self.random = random.Random(seed)
        self.time = VirtualTime()
        self.broker = self.a_broker(faults, seed)
        self.transfer = Transfer(chunk_bytes=chunk_bytes)
        self.training = True
        self.carried_out: Counter[str] = Counter()
        self.deaths: dict[str, frozenset[int]] = {}
        self._training_s = training_s
        self.training_times: dict[str, tuple[float, float]] = {}  # where a device's differ
        rule = {"buffer_size": 2, "deadline_s": 30, "max_staleness": 10_000, **(aggregation or {})}
        self.settings = CoordinatorSettings(
            task="task", transfer=self.transfer, aggregation=rule, **settings
        )
        self.coordinator_disk = CoordinatorDisk()
        self.ledgers = {self.coordinator_disk.ledger: self.coordinator_disk}
        self.agent_disks = {
            f"device-{n}": AgentDisk(outbox=b"outbox%02d" % n) for n in range(devices)
        }
        self.coordinator = self.coordinator_kind(self, self.coordinator_disk, self.settings)
        self.agents = {d: self.agent_kind(self, d, disk) for d, disk in self.agent_disks.items()}

    def a_broker(self, faults: Faults, seed: int) -> LoopbackBroker:
        return LoopbackBroker(self.time, faults, seed)

    def opened(self, party: Party, event: Any, *, believed: bool) -> None:
        """A signed session has looked at a message; for worlds that watch."""

    def took(self, party: Party, event: Any, effects: list[Any]) -> None:
        """A party has handled an event; for worlds that watch."""

    def training_s(self, device: str) -> float:
        return self.random.uniform(*self.training_times.get(device, self._training_s))

    def restart_agent(self, device: str) -> None:
        self.agents[device].kill()
        self.agents[device] = self.agent_kind(self, device, self.agent_disks[device])

    def restart_coordinator(self) -> None:
        self.coordinator.kill()
        self.coordinator = self.coordinator_kind(self, self.coordinator_disk, self.settings)

    def set_quarantine(self, device: str, *, to: bool) -> None:
        """Somebody puts a device there, or lets it out, by hand."""
        disk = self.coordinator_disk
        disk.quarantine[device] = cv.Entry(to, "hand", "a test", len(disk.versions) - 1)
        self.coordinator.inbox(cv.QuarantineChanged(dict(disk.quarantine)))

    def kills_after(self, party: Party, effect: Any) -> bool:
        """Count an effect; kill and restart its party if `deaths` names this number of it."""
        if isinstance(effect, Log | cv.Report):
            return False
        self.carried_out[party.name] += 1
        if self.carried_out[party.name] not in self.deaths.get(party.name, ()):
            return False
        if party is self.coordinator:
            self.restart_coordinator()
        else:
            self.restart_agent(party.name)
        return True

    def run(self, seconds: float, done: Callable[[], bool] = lambda: False) -> bool:
        return self.time.run_until(done, self.time.now_s + seconds)

    def come_to_rest(self, limit_s: float = 3 * 3600) -> bool:
        """Let nobody finish another training, and wait until nothing is under way."""
        self.training = False
        return self.run(limit_s, self.at_rest)

    def at_rest(self) -> bool:
        return (
            not any(disk.offers for disk in self.agent_disks.values())
            and len(self.coordinator.core.uploads) == 0
            and {*self.coordinator_disk.applied, *self.coordinator_disk.aside}
            == set(self.coordinator_disk.entered)
        )

    def trained(self) -> set[cv.UpdateId]:
        return {
            cv.UpdateId(device, disk.outbox, sequence)
            for device, disk in self.agent_disks.items()
            for sequence in disk.committed
        }
