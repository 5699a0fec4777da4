"""A device in virtual time: the real agent's core; its store and outbox are dicts.

It works when the virtual time of its training has passed: what the work is, honest or not, and
how long it takes are given from outside.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from config.failures import Failure
from config.settings import Transfer
from device_agent import vocabulary as av
from device_agent.core import AgentCore
from device_agent.presence import Self
from experiments.simulation.party import VirtualParty
from federation.compression import Vector, decode, encode, is_lossy
from federation.layout import Layout
from federation.loopback import LoopbackBroker
from federation.machine import Publish, Tick
from federation.messages import Chunk, Header, Offer, State
from federation.messages import encode as encode_message
from federation.session import Identity
from federation.topics import Topics
from federation.transfer import manifest_of
from learning.vectors import ModelMismatchError


@dataclass(frozen=True, slots=True)
class Assignment:
    """One training to be done: on which version, from which model Float32[d], by which seed."""

    device: str
    header: Header
    received: Vector
    seed: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What comes of it: the delta Float32[d], and what the device claims about it."""

    delta: Vector
    examples: int
    steps: int
    metrics: dict[str, float]


# Raises a Failure or a ModelMismatchError where a training brings nothing.
Work: TypeAlias = Callable[[Assignment], Trained]


@dataclass(frozen=True, slots=True)
class DeviceModel:
    """A kind of device: its name, what it does for a version, and how long that takes."""

    name: str
    work: Work
    duration_s: Callable[[Header], float]


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
        self._topics = topics
        self._transfer = transfer
        self._store: dict[tuple[int, int], bytes] = {}
        self._payloads: dict[int, bytes] = {}
        self._offers: dict[int, Offer] = {}
        self._residual: Vector | None = None
        self._next_sequence = 0
        self._job: object = None
        self._outcome: tuple[bytes, Vector | None] | None = None
        outbox = hashlib.blake2b(model.name.encode(), digest_size=8).digest()
        me = Self(model.name, outbox, chance.randbytes(8), 1, task, "simulated")
        self._outbox = outbox
        self.core: AgentCore = AgentCore(me, topics, transfer, 1)
        topic = topics.device(model.name)

        def will(incarnation: int) -> Publish:
            gone = me.presence(State.OFFLINE, incarnation)
            return Publish(topic, encode_message(gone), retain=True)

        self.connect(Identity(topic, topics.standing_filters(model.name), will, 1))
        self.tell(Tick())

    def do(self, effect: Any) -> None:
        """What the agent's shell does with files and a worker."""
        match effect:
            case av.Prepare(header=header):
                held = {at: data for at, data in self._store.items() if at[0] == header.version}
                self._store = held
                self.tell(av.Prepared(header, frozenset(index for _, index in held)))
            case av.StoreChunk(header=header, index=index, data=data):
                self._store[header.version, index] = data
            case av.Train(header=header):
                self._begin(header)
            case av.Look():
                self.tell(av.Looked(""))
            case av.Abandon() | av.Pause():
                self._job = None
            case av.Commit(header=header, outcome=outcome):
                self.tell(av.Committed(self._commit(header, outcome)))
            case av.SendChunk(sequence=sequence, index=index):
                self._send(sequence, index)
            case av.Forget(sequence=sequence):
                del self._offers[sequence], self._payloads[sequence]
                self.tell(av.Forgotten(sequence))
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _begin(self, header: Header) -> None:
        self._job = job = object()
        duration_s = self.model.duration_s(header)
        self.tell(av.TrainingBegun(header.version))

        def end() -> None:
            if self._job is job:
                self.handle(self._train(header, duration_s))

        self._time.call_in(duration_s, end)

    def _train(self, header: Header, duration_s: float) -> av.TrainingEnded | av.TrainingFailed:
        payload = b"".join(self._store[header.version, i] for i in range(header.payload.count))
        received = decode(header.codec, payload, Layout.from_wire(header.layout).size)
        assignment = Assignment(self.model.name, header, received, self._seed(header))
        try:
            trained = self.model.work(assignment)
        except (Failure, ModelMismatchError) as failure:
            return av.TrainingFailed(header.version, str(failure)[:300])
        delta = trained.delta
        if self._residual is not None:
            delta = delta + self._residual  # error feedback, as the worker does it
        encoded = encode(header.plan.codec, delta)
        lossy = is_lossy(header.plan.codec)
        rest = delta - decode(header.plan.codec, encoded, delta.size) if lossy else None
        self._outcome = encoded, rest
        metrics = {**trained.metrics}
        return av.TrainingEnded(
            header.version, trained.examples, trained.steps, duration_s, metrics
        )

    def _commit(self, header: Header, outcome: av.TrainingEnded) -> Offer:
        assert self._outcome is not None
        payload, self._residual = self._outcome
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
        self._offers[sequence] = offer
        self._payloads[sequence] = payload
        return offer

    def _send(self, sequence: int, index: int) -> None:
        start, end = self._offers[sequence].payload.extent(index)
        chunk = Chunk(sequence, index, self._payloads[sequence][start:end]).encode()
        self.session.publish(Publish(self._topics.up(self.model.name), chunk, qos=0))

    def _seed(self, header: Header) -> int:
        text = f"{header.plan.seed} {header.version} {self.model.name}"
        return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1
