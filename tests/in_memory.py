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
from federation.session import Identity
from federation.sizes import encoded_size
from federation.topics import Topics
from federation.transfer import manifest_of
from federation.virtual_time import VirtualTime

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
    spool: dict[cv.UpdateId, dict[int, bytes]] = field(default_factory=dict)
    versions: list[bytes] = field(default_factory=list)


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


class Party:
    """What the two kinds of shell share: an inbox, a core, timers, one effect after another."""

    core: Any
    session: LoopbackSession

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.alive = True
        self.stopped: Stop | None = None
        self.logs: list[Log] = []
        self._timer = 0

    def inbox(self, event: Any) -> None:
        self.world.time.call_in(0, lambda: self.handle(event))

    def later(self, delay_s: float, event: Any) -> None:
        self.world.time.call_in(delay_s, lambda: self.handle(event))

    def handle(self, event: Any) -> None:
        if not self.alive or self.stopped:
            return
        at = Moment(self.world.time.now_s, self.world.random.random())
        effects = self.core.handle(event, at)
        self.core.validate()
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
        self.session.vanish()


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
        self.session = LoopbackSession(world.broker, identity, self.inbox)
        self.inbox(Tick())
        if start:
            self.session.start()

    def held(self, header: Header) -> frozenset[int]:
        return frozenset(i for v, i in self.disk.store if v == header.version)

    def do(self, effect: Any) -> None:
        disk = self.disk
        match effect:
            case av.Prepare(header=header):
                disk.header = header
                self.later(0.01, av.Prepared(header, self.held(header)))
            case av.StoreChunk(header=header, index=index, data=data):
                disk.store[header.version, index] = data
            case av.Train(header=header):
                whole = b"".join(disk.store[header.version, i] for i in range(header.payload.count))
                assert whole == self.world.coordinator_disk.versions[header.version]
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

        self.world.time.call_in(self.world.training_s(), end)

    def commit(self, header: Header, outcome: av.TrainingEnded) -> Offer:
        disk = self.disk
        sequence = disk.next_sequence
        size = encoded_size("int8", LAYOUT.size)
        payload = random.Random(f"{disk.outbox!r}{sequence}").randbytes(size)
        offer = Offer(
            outbox=disk.outbox,
            sequence=sequence,
            ledger=header.ledger,
            base_version=header.version,
            codec="int8",
            payload=manifest_of(payload, self.world.transfer.chunk_bytes),
            examples=outcome.examples,
            steps=outcome.steps,
            train_s=outcome.train_s,
            metrics=outcome.metrics,
        )
        disk.next_sequence += 1
        disk.offers[sequence] = offer
        disk.payloads[sequence] = payload
        disk.trained = (header.ledger, header.version)
        disk.committed.append(sequence)
        return offer


class Coordinator(Party):
    def __init__(self, world: World, disk: CoordinatorDisk, settings: CoordinatorSettings) -> None:
        super().__init__(world, "coordinator")
        self.disk = disk
        self.settings = settings
        disk.boots += 1
        if not disk.versions:
            disk.versions.append(self.payload(0))
        self.me = coordinator_core.Self(disk.ledger, world.random.randbytes(8), disk.boots)
        waiting = tuple(a for id, a in disk.entered.items() if id not in disk.applied)
        memory = cv.Recollection(disk.ledger, self.info(), dict(disk.settled), waiting)
        self.core = coordinator_core.CoordinatorCore(self.me, TOPICS, settings, memory)
        identity = Identity(
            "test-coordinator",
            TOPICS.standing_filters(),
            lambda n: Publish(
                TOPICS.coordinator, encode(self.me.presence(State.OFFLINE, n)), retain=True
            ),
            disk.boots,
        )
        self.session = LoopbackSession(world.broker, identity, self.inbox)
        self.session.start()

    def payload(self, version: int) -> bytes:
        return random.Random(version).randbytes(encoded_size("float32", LAYOUT.size))

    def info(self) -> cv.VersionInfo:
        version = len(self.disk.versions) - 1
        manifest = manifest_of(self.disk.versions[version], self.settings.transfer.chunk_bytes)
        return cv.VersionInfo(version, "float32", manifest, LAYOUT)

    def chunk(self, version: int, index: int) -> bytes:
        payload = self.disk.versions[version]
        size = self.settings.transfer.chunk_bytes
        return Chunk(version, index, payload[index * size : (index + 1) * size]).encode()

    def do(self, effect: Any) -> None:
        disk = self.disk
        match effect:
            case cv.OpenUpload(id=id):
                held = frozenset(disk.spool.setdefault(id, {}))
                self.inbox(cv.UploadOpened(id, held))
            case cv.WriteChunk(id=id, offset=offset, data=data):
                disk.spool[id][offset // self.settings.transfer.chunk_bytes] = data
            case cv.DropUpload(id=id):
                disk.spool.pop(id, None)
            case cv.Screen(id=id):
                self.later(0.02, cv.Screened(id, 1.0, None))
            case cv.Judge(id=id, offer=offer, refusal=reason):
                assert id not in disk.entered, "entered twice"
                if reason is None:
                    disk.entered[id] = cv.Accepted(id, offer.base_version, offer.examples)
                    disk.settled[id.device, id.outbox] = id.sequence
                else:
                    disk.refused[id] = reason
                self.inbox(cv.Judged(effect))
            case cv.Combine():
                self.world.time.call_in(0.05, lambda: self.combine(effect))
            case cv.Announce(info=info, slot=slot, header=header):
                for index in range(info.payload.count):
                    topic = TOPICS.model_chunk(slot, index)
                    payload = self.chunk(info.version, index)
                    self.session.publish(Publish(topic, payload, qos=0, retain=True))
                self.session.publish(Publish(TOPICS.model, header, retain=True))
            case cv.ServeChunk(topic=topic, version=version, index=index):
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
            self.disk.applied[contribution.id] = effect.base_version + 1
        self.disk.versions.append(self.payload(effect.base_version + 1))
        self.handle(cv.Combined(self.info(), effect.contributions))


class World:
    """One broker, one coordinator, some agents, one clock, one seed."""

    def __init__(
        self,
        *,
        devices: int = 3,
        faults: Faults = NO_FAULTS,
        seed: int = 0,
        chunk_bytes: int = 1024,
        aggregation: dict[str, Any] | None = None,
        training_s: tuple[float, float] = (5.0, 20.0),
        **settings: Any,
    ) -> None:
        self.random = random.Random(seed)
        self.time = VirtualTime()
        self.broker = LoopbackBroker(self.time, faults, seed)
        self.transfer = Transfer(chunk_bytes=chunk_bytes)
        self.training = True
        self.carried_out: Counter[str] = Counter()
        self.deaths: dict[str, frozenset[int]] = {}
        self._training_s = training_s
        rule = {"buffer_size": 2, "deadline_s": 30, "max_staleness": 10_000, **(aggregation or {})}
        self.settings = CoordinatorSettings(
            task="task", transfer=self.transfer, aggregation=rule, **settings
        )
        self.coordinator_disk = CoordinatorDisk()
        self.agent_disks = {
            f"device-{n}": AgentDisk(outbox=b"outbox-%d" % n) for n in range(devices)
        }
        self.coordinator = Coordinator(self, self.coordinator_disk, self.settings)
        self.agents = {d: Agent(self, d, disk) for d, disk in self.agent_disks.items()}

    def training_s(self) -> float:
        return self.random.uniform(*self._training_s)

    def restart_agent(self, device: str) -> None:
        self.agents[device].kill()
        self.agents[device] = Agent(self, device, self.agent_disks[device])

    def restart_coordinator(self) -> None:
        self.coordinator.kill()
        self.coordinator = Coordinator(self, self.coordinator_disk, self.settings)

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
            and set(self.coordinator_disk.applied) == set(self.coordinator_disk.entered)
        )

    def trained(self) -> set[cv.UpdateId]:
        return {
            cv.UpdateId(device, disk.outbox, sequence)
            for device, disk in self.agent_disks.items()
            for sequence in disk.committed
        }
