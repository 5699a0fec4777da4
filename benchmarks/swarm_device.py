"""A device of a swarm: the agent's own core; nothing is trained, and nothing is on a disk.

What the agent's shell does with files and a worker is done at once: a training gives an update that
was made beforehand, after `think_s`, and the outbox is a dict. So a coordinator sees what it sees
of any device: presence with its will, hello, subscriptions, offers, chunks as they are wanted.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from math import inf
from typing import Any

from benchmarks.swarm_link import SwarmInbox, SwarmLink
from benchmarks.swarm_record import Record
from config.settings import Transfer
from device_agent import vocabulary as av
from device_agent.core import AgentCore
from device_agent.presence import Self
from federation.machine import (
    Linked,
    Log,
    Moment,
    Publish,
    Received,
    Stop,
    Subscribe,
    Tick,
    Unlinked,
    Unsubscribe,
)
from federation.messages import Chunk, Header, Manifest, Offer, State, encode
from federation.session import Identity
from federation.topics import Topics
from federation.transfer import manifest_of

BOOT = 1
# How an encoded offer begins: protocol, then kind.
OFFER = b"\xa4kind\xa5offer"
HEAD_BYTES = 24


@dataclass(frozen=True, slots=True)
class Work:
    """What all devices of a swarm send.

    Attributes:
        payload: an encoded update.
        manifest: of the payload.
        think_s: how long a training takes, on average.
        fetches: whether devices fetch a version before they train on it; else they do as if they
            had held it.
    """

    payload: bytes
    manifest: Manifest
    think_s: float = 0.0
    fetches: bool = True

    @classmethod
    def of(
        cls, payload: bytes, transfer: Transfer, think_s: float = 0.0, *, fetches: bool = True
    ) -> Work:
        """The work of devices that send this payload."""
        return cls(payload, manifest_of(payload, transfer.chunk_bytes), think_s, fetches)


class SwarmDevice:
    """One agent; its outbox holds one update, and it trains anew when that has been judged."""

    def __init__(
        self,
        name: str,
        topics: Topics,
        transfer: Transfer,
        task: str,
        work: Work,
        record: Record,
        clock: Callable[[], float],
        link: Callable[[Identity, SwarmInbox], SwarmLink],
    ) -> None:
        self.name = name
        self._topics = topics
        self._work = work
        self._record = record
        self._clock = clock
        self._chance = random.Random(name)
        self._outbox = hashlib.blake2b(name.encode(), digest_size=8).digest()
        self._sequence = 0
        self._trained: tuple[Header, float] | None = None  # what will have been, and when
        self._up = topics.up(name)
        self._me = Self(name, self._outbox, self._chance.randbytes(8), BOOT, task, "swarm")
        self._core = AgentCore(self._me, topics, transfer, 1)
        topic = topics.device(name)
        identity = Identity(topic, topics.standing_filters(name), self._will, BOOT)
        self.link = link(identity, self.handle)

    @property
    def due_s(self) -> float:
        """When it wants a `tick`."""
        trained_s = inf if self._trained is None else self._trained[1]
        return min(self._core.next_tick_s, trained_s)

    def tick(self) -> None:
        """Time has passed."""
        if self._trained is not None and self._clock() >= self._trained[1]:
            (header, _), self._trained = self._trained, None
            self.handle(av.TrainingEnded(header.version, 100, 10, self._work.think_s, {}))
        else:
            self.handle(Tick())

    def handle(self, event: Any) -> None:
        """Hand an event to the core, and do what it wants; what comes of that, at once too."""
        match event:
            case Linked():
                self._record.linked(self.name)
            case Unlinked():
                self._record.lost(event.reason)
            case Received():
                self._record.heard(event)
        events = [event]
        for one in events:
            moment = Moment(self._clock(), self._chance.random())
            for effect in self._core.handle(one, moment):
                events += self._do(effect, moment)

    def _do(self, effect: Any, at: Moment) -> list[Any]:
        match effect:
            case Publish():
                if OFFER in effect.payload[:HEAD_BYTES]:
                    self._record.offered(self.name, self._sequence - 1, at.now_s)
                self.link.publish(effect)
            case Subscribe():
                self.link.subscribe(effect.topics)
            case Unsubscribe():
                self.link.unsubscribe(effect.topics)
            case av.SendChunk():
                self._send(effect)
            case av.Prepare(header=header):
                held = () if self._work.fetches else range(header.payload.count)
                return [av.Prepared(header, frozenset(held)), Tick()]
            case av.Look():
                return [av.Looked("")]
            case av.Train(header=header):
                think_s = self._work.think_s * (0.5 + self._chance.random())
                self._trained = header, at.now_s + think_s
                return [av.TrainingBegun(header.version)]
            case av.Commit():
                return [av.Committed(self._offer(effect))]
            case av.Forget(sequence=sequence):
                self._record.judged(self.name, sequence, at.now_s, accepted=effect.accepted)
                return [av.Forgotten(sequence)]
            case av.Abandon() | av.Pause():
                self._trained = None
            case Log(text="update put off", facts=facts):
                self._record.put_off(facts["wait_s"], facts["reason"])
            case Stop():
                self._record.lost(effect.text)
            case Log() | av.StoreChunk():
                pass
            case _:
                raise AssertionError(f"nobody carries out {effect}")
        return []

    def _offer(self, order: av.Commit) -> Offer:
        header, outcome = order.header, order.outcome
        sequence = self._sequence
        self._sequence += 1
        return Offer(
            outbox=self._outbox,
            sequence=sequence,
            ledger=header.ledger,
            base_version=header.version,
            codec=header.plan.codec,
            payload=self._work.manifest,
            examples=outcome.examples,
            steps=outcome.steps,
            train_s=outcome.train_s,
            metrics=outcome.metrics,
        )

    def _send(self, order: av.SendChunk) -> None:
        start, end = self._work.manifest.extent(order.index)
        chunk = Chunk(order.sequence, order.index, self._work.payload[start:end]).encode()
        self._record.chunk(end - start)
        self.link.publish(Publish(self._up, chunk, qos=0))

    def _will(self, incarnation: int) -> Publish:
        gone = self._me.presence(State.OFFLINE, incarnation)
        return Publish(self._topics.device(self.name), encode(gone), retain=True)
