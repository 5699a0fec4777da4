"""A device in virtual time: the real agent's core; its store and outbox are dicts.

It works when the virtual time of its training has passed: what the work is, honest or not, how long
it takes, when the device is there and whether it crashes are given from outside.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from config.failures import Failure
from config.settings import TrainingPlan, Transfer
from device_agent import vocabulary as av
from device_agent.core import AgentCore
from device_agent.headers import VersionKey
from device_agent.presence import Self
from experiments.simulation.assignment import Assignment, Begin, Trial
from experiments.simulation.engine import EngineEnded
from experiments.simulation.party import VirtualParty
from federation.compression import Vector, decode
from federation.layout import Layout
from federation.loopback import LoopbackBroker
from federation.machine import Publish, Tick
from federation.messages import Chunk, Header, Offer, State
from federation.messages import encode as encode_message
from federation.session import Identity
from federation.topics import Topics
from federation.transfer import manifest_of
from learning.updates import Update, make_update
from learning.vectors import ModelMismatchError

# How long a device is there, and then away, in turns without end; a first 0 is one that is away.
Presence: TypeAlias = Iterator[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A kind of device: its name, what it does for a version, and how long that takes.

    Attributes:
        begin: begins a training.
        duration_s: how long a training takes while the device is there.
        presence: when it is there; None is always.
        crash: share of its trainings that end with the device.
        reboot_s: how long it is down then.
        bandwidth: of its link, bytes a second each way; None is that of the broker.
    """

    name: str
    begin: Begin
    duration_s: Callable[[TrainingPlan], float]
    presence: Presence | None = None
    crash: float = 0.0
    reboot_s: float = 60.0
    bandwidth: float | None = None


@dataclass(slots=True)
class _Job:
    """A training under way: what is left of it, since when it goes on, and where it will break."""

    header: Header
    trial: Trial
    duration_s: float
    left_s: float
    since_s: float
    breaks_s: float | None


class VirtualDevice(VirtualParty):
    """One agent. Its outbox holds one update: it trains anew when that has been judged."""

    def __init__(
        self,
        model: DeviceModel,
        broker: LoopbackBroker,
        topics: Topics,
        task: str,
        transfer: Transfer,
        chance: random.Random,
    ) -> None:
        super().__init__(broker, chance)
        self.model = model
        self.crashes = 0
        self._topics = topics
        self._transfer = transfer
        self._task = task
        # What is on its disk.
        self._outbox = hashlib.blake2b(model.name.encode(), digest_size=8).digest()
        self._store: dict[tuple[int, int], bytes] = {}
        self._seen: Header | None = None
        self._payloads: dict[int, bytes] = {}
        self._offers: dict[int, Offer] = {}
        self._residual: Vector | None = None
        self._memory: Vector | None = None
        self._candidate: Vector | None = None
        self._next_sequence = self._boots = 0
        self._trained: VersionKey | None = None
        self._job: _Job | None = None
        self._outcome: Update | None = None
        self._carried = (0, 0)
        self._boot()
        if model.presence is not None:
            self._be_there(model.presence)

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of payloads that it sent and received."""
        if self.down:
            return self._carried
        sent, received = self.session.traffic
        return self._carried[0] + sent, self._carried[1] + received

    def do(self, effect: Any) -> None:
        """What the agent's shell does with files and a worker."""
        match effect:
            case av.Prepare(header=header):
                held = {at: data for at, data in self._store.items() if at[0] == header.version}
                self._store, self._seen = held, header
                self.tell(av.Prepared(header, frozenset(index for _, index in held)))
            case av.StoreChunk(header=header, index=index, data=data):
                self._store[header.version, index] = data
            case av.Train(header=header):
                self._train(header)
            case av.Look():
                self.tell(av.Looked(""))
            case av.Abandon() | av.Pause():
                self._give_up()
            case av.Commit(header=header, outcome=outcome):
                self.tell(av.Committed(self._commit(header, outcome)))
            case av.SendChunk(sequence=sequence, index=index):
                self._send(sequence, index)
            case av.Forget(sequence=sequence):
                self._forget(effect)
                self.tell(av.Forgotten(sequence))
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _boot(self) -> None:
        """Begin with what is on the disk."""
        self._boots += 1
        process = self._chance.randbytes(8)
        me = Self(self.model.name, self._outbox, process, self._boots, self._task, "simulated")
        seen = self._seen
        whole = seen is not None and len(self._store) == seen.payload.count
        self.core: AgentCore = AgentCore(
            me,
            self._topics,
            self._transfer,
            1,
            self._offers.values(),
            self._trained,
            seen if whole else None,
            seen=seen,
        )
        topic = self._topics.device(self.model.name)

        def will(incarnation: int) -> Publish:
            gone = me.presence(State.OFFLINE, incarnation)
            return Publish(topic, encode_message(gone), retain=True)

        filters = self._topics.standing_filters(self.model.name)
        self.connect(Identity(topic, filters, will, self._boots), self.model.bandwidth)
        self.tell(Tick())

    def _crash(self) -> None:
        """Lose all that is not on the disk, and be down for a while."""
        self.crashes += 1
        self._give_up()
        self._outcome = None
        self._carried = self.traffic
        self.die()
        self._time.call_in(self.model.reboot_s, self._boot)

    def _be_there(self, presence: Presence) -> None:
        there_s, away_s = next(presence)

        def leave() -> None:
            self._rest()
            self.doze()
            self._time.call_in(away_s, come)

        def come() -> None:
            self.wake()
            self._go_on()
            self._be_there(presence)

        self._time.call_in(there_s, leave)

    def _train(self, header: Header) -> None:
        duration_s = self.model.duration_s(header.plan)
        payload = b"".join(self._store[header.version, i] for i in range(header.payload.count))
        received = decode(header.codec, payload, Layout.from_wire(header.layout).size)
        assignment = Assignment(self.model.name, header, received, self._seed(header))
        trial = self.model.begin(assignment, self._time.now_s + duration_s)
        breaks_s = None
        if self._chance.random() < self.model.crash:
            breaks_s = self._chance.random() * duration_s
        self._job = _Job(header, trial, duration_s, duration_s, 0.0, breaks_s)
        self.tell(av.TrainingBegun(header.version))
        if not self.dozing:
            self._go_on()

    def _go_on(self) -> None:
        """Train, until it is done, or the device breaks, or goes away."""
        job = self._job
        if job is None:
            return
        job.since_s = since_s = self._time.now_s
        breaks = job.breaks_s is not None
        lasts_s = job.left_s if job.breaks_s is None else job.breaks_s

        def end() -> None:
            if self._job is not job or job.since_s != since_s or self.dozing:
                return
            if breaks:
                self._crash()
            else:
                self._job = None
                self.handle(self._ended(job))

        self._time.call_in(lasts_s, end)

    def _rest(self) -> None:
        """Train no further for now."""
        if (job := self._job) is not None:
            done_s = self._time.now_s - job.since_s
            job.left_s -= done_s
            if job.breaks_s is not None:
                job.breaks_s -= done_s

    def _give_up(self) -> None:
        if self._job is not None:
            self._job.trial.cancel()
            self._job = None

    def _ended(self, job: _Job) -> av.TrainingEnded | av.TrainingFailed:
        header = job.header
        try:
            trained = job.trial.result()
        except EngineEnded:  # no training that failed: there are none any more
            raise
        except (Failure, ModelMismatchError) as failure:
            return av.TrainingFailed(header.version, str(failure)[:300])
        plan = header.plan
        if plan.memory:
            memory = np.zeros_like(trained.delta) if self._memory is None else self._memory
            self._outcome = make_update(trained.delta, plan.codec, memory=memory)
        else:
            self._outcome = make_update(trained.delta, plan.codec, residual=self._residual)
        return av.TrainingEnded(
            header.version, trained.examples, trained.steps, job.duration_s, trained.metrics
        )

    def _commit(self, header: Header, outcome: av.TrainingEnded) -> Offer:
        assert self._outcome is not None
        payload = self._outcome.payload
        self._residual, self._candidate = self._outcome.residual, self._outcome.memory
        sequence = self._next_sequence
        offer = Offer(
            outbox=self._outbox,
            sequence=sequence,
            ledger=header.ledger,
            base_version=header.version,
            codec=header.plan.codec,
            payload=manifest_of(payload, self._transfer.chunk_bytes),
            examples=outcome.examples,
            steps=outcome.steps,
            train_s=outcome.train_s,
            metrics=outcome.metrics,
        )
        self._next_sequence += 1
        self._trained = header.ledger, header.version
        self._offers[sequence] = offer
        self._payloads[sequence] = payload
        return offer

    def _forget(self, effect: av.Forget) -> None:
        del self._offers[effect.sequence], self._payloads[effect.sequence]
        if effect.accepted and self._candidate is not None:
            self._memory = self._candidate
        self._candidate = None

    def _send(self, sequence: int, index: int) -> None:
        start, end = self._offers[sequence].payload.extent(index)
        chunk = Chunk(sequence, index, self._payloads[sequence][start:end]).encode()
        self.session.publish(Publish(self._topics.up(self.model.name), chunk, qos=0))

    def _seed(self, header: Header) -> int:
        text = f"{header.plan.seed} {header.version} {self.model.name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
