"""A broker that means harm, in virtual time: it reads everything and does with it what it likes.

It has what a broker has: every byte that was ever said, wills included, also of earlier
connections, earlier starts and an earlier ledger. It has more than that: the keys of an enrolled
device, of members of another federation under the same authority, and of another authority. By a
seed it drops, doubles, delays, replays, moves, alters, truncates and invents messages, spoils what
is retained, and offers what it has read as updates of its own device.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from federation.credentials import COORDINATOR, SIGNATURE_BYTES
from federation.envelope import Signer
from federation.loopback import Faults, LoopbackBroker, LoopbackSession
from federation.machine import Publish, Received
from federation.messages import (
    FRAME_MARK,
    SIGNED_MARK,
    Chunk,
    Header,
    Message,
    MessageError,
    Offer,
    Pace,
    Receipt,
    Verdict,
    Want,
    decode,
    encode,
)
from federation.topics import Topics
from federation.virtual_time import VirtualTime
from tests.members import Authority
from tests.trust import Trust

THIEF = "mallory"


@dataclass(frozen=True, slots=True)
class Malice:
    """How often the broker does what to a message that it is about to hand over."""

    drop: float = 0.0
    double: float = 0.0
    delay: float = 0.0
    replay: float = 0.0
    move: float = 0.0
    alter: float = 0.0
    invent: float = 0.0
    spoil: float = 0.0
    theft: float = 0.0


class HostileBroker(LoopbackBroker):
    """The broker; `said` is what members have really said, and where.

    Attributes:
        honest: while it is, it does nothing of all this; what it has spoiled stays.
        done: what was handed over that nobody has said in this place, and what else it did.
    """

    def __init__(
        self,
        time: VirtualTime,
        topics: Topics,
        trust: Trust,
        malice: Malice,
        faults: Faults,
        seed: int,
    ) -> None:
        super().__init__(time, faults, seed)
        self.malice = malice
        self.honest = False
        self.said: set[tuple[str, bytes]] = set()
        self.read: set[bytes] = set()
        self.done: Counter[str] = Counter()
        self._past: list[tuple[str, bytes]] = []
        self._topics = topics
        self._chance = random.Random(f"malice {seed}")
        self._frames: dict[tuple[str, int, int], bytes] = {}
        self._loot: dict[tuple[bytes, int], str] = {}
        self._thief = trust.signer(THIEF)
        elsewhere = Authority(Topics(topics.prefix, "elsewhere"))
        elsewhere.key, elsewhere.public = trust.authority.key, trust.authority.public
        strange = Authority(topics)
        subjects = (COORDINATOR, "device-0", "device-1")
        self._forgers: list[tuple[str, Signer | None]] = [
            ("unsigned", None),
            ("by a foreign device", self._thief),
            *(("by another authority", strange.signer(one)) for one in subjects),
            *(("by another federation", elsewhere.signer(one)) for one in subjects),
        ]
        for signer in (elsewhere.signer(), elsewhere.signer("device-0")):
            there = elsewhere.topics
            for topic in (there.model, there.coordinator, there.up("device-0")):
                self._past.append((topic, signer.sign(Publish(topic, b"\x80")).payload))

    # What it hears

    def attach(self, session: LoopbackSession) -> None:
        """A connection, and with it the will of its client."""
        super().attach(session)
        identity = session._identity
        self._hear(identity.will(identity.incarnation(session.connection)))

    def carry(self, message: Publish) -> None:
        self._hear(message)
        super().carry(message)

    def accept(self, message: Publish) -> None:
        self._hear(message)
        super().accept(message)
        if not self.honest and self._happens(self.malice.spoil):
            self._spoil()

    def _hear(self, message: Publish) -> None:
        entry = (message.topic, message.payload)
        if entry in self.said:
            return
        self.said.add(entry)
        self._past.append(entry)
        self.read.add(message.payload)
        self._study(message)

    def _study(self, message: Publish) -> None:
        """Remember what can be stolen, and give it out when the thief is asked for it."""
        address, heard = self._topics.parse(message.topic), body(message.payload)
        if address is None:
            return
        match heard:
            case Chunk() if message.topic == self._topics.up(address.device):
                self._frames[address.device, heard.key, heard.index] = message.payload
            case Offer() if self._happens(self.malice.theft):
                self._loot[heard.outbox, heard.sequence] = address.device
                self._as_thief(encode(heard))
            case Want() if address.device == THIEF:
                victim = self._loot.get((heard.outbox, heard.sequence), "")
                for index in heard.chunks:
                    if frame := self._frames.get((victim, heard.sequence, index)):
                        self._as_thief(frame)

    def _as_thief(self, payload: bytes) -> None:
        """Say something as the enrolled device whose keys the broker has; that is its right."""
        self.done["said by the thief"] += 1
        message = self._thief.sign(Publish(self._topics.up(THIEF), payload))
        self.said.add((message.topic, message.payload))
        self.time.call_in(0.01, lambda: self.accept(message))

    # What it hands over

    def hand_over(self, session: LoopbackSession, received: Received) -> None:
        if self.honest:
            super().hand_over(session, received)
            return
        if self._happens(self.malice.drop):
            self.done["dropped"] += 1
        elif self._happens(self.malice.delay):
            self.done["delayed"] += 1
            connection = session.connection
            delay_s = self._chance.uniform(0.1, 90.0)
            self.time.call_in(delay_s, lambda: session.receive(received, connection))
        else:
            super().hand_over(session, received)
        for what, forged in self._mischief(session, received):
            self.done[what] += 1
            super().hand_over(session, forged)

    def _mischief(
        self, session: LoopbackSession, received: Received
    ) -> Iterator[tuple[str, Received]]:
        malice = self.malice
        if self._happens(malice.double):
            yield "doubled", received
        if self._happens(malice.replay):
            mine = [entry for entry in self._past if session.listens_to(entry[0])]
            if mine:
                yield "replayed", self._received(*self._chance.choice(mine))
        if self._happens(malice.move):
            topic, payload = self._chance.choice(self._place(session)), self._any()
            yield "moved", self._received(topic, payload)
        if self._happens(malice.alter):
            topic, payload = received.topic, received.payload
            if self._chance.random() < 0.3:
                topic, payload = self._chance.choice(self._place(session)), self._any()
            yield "altered", self._received(topic, self._altered(payload))
        if self._happens(malice.invent):
            what, forged = self._invented(self._chance.choice(self._place(session)))
            yield what, forged

    def _spoil(self) -> None:
        """Put something else in the place of something that is retained."""
        self.done["spoilt"] += 1
        topic = self._chance.choice([*self.retained, self._topics.model, self._topics.coordinator])
        own = [payload for place, payload in self._past if place == topic]
        kind = self._chance.randrange(3)
        if kind == 0:
            self.retained.pop(topic, None)
        elif kind == 1 and own:
            self.retained[topic] = self._chance.choice(own)
        else:
            self.retained[topic] = self._altered(self._any())

    def _altered(self, payload: bytes) -> bytes:
        """Another byte somewhere, or fewer, or more of them."""
        if not payload:
            return b"\0"
        changed = bytearray(payload)
        kind = self._chance.randrange(6)
        if kind == 0:
            del changed[self._chance.randrange(len(changed)) :]
        elif kind == 1:
            changed += self._chance.randbytes(self._chance.randint(1, 20))
        else:
            last = len(changed) if kind == 2 else min(len(changed), 16)
            changed[self._chance.randrange(last)] ^= self._chance.randint(1, 255)
        return bytes(changed)

    def _invented(self, topic: str) -> tuple[str, Received]:
        """A message of its own making, much like a true one."""
        who, signer = self._chance.choice(self._forgers)
        true = body(self._any())
        payload = twisted(true, self._chance)
        if isinstance(true, Chunk) or signer is None:
            return f"invented {who if signer is None else 'chunk'}", self._received(topic, payload)
        signed = signer.sign(Publish(topic, payload))
        if signer is self._thief and topic in (self._topics.up(THIEF), self._topics.device(THIEF)):
            self.said.add((topic, signed.payload))  # an enrolled device may say so of itself
        return f"invented {who}", self._received(topic, signed.payload)

    def _place(self, session: LoopbackSession) -> list[str]:
        """Topics on which this session believes something of somebody."""
        devices = ("device-0", "device-1", "device-2", THIEF)
        topics = self._topics
        if session.client_id.endswith("coordinator"):
            return [topics.coordinator, *map(topics.up, devices), *map(topics.device, devices)]
        own = [one for one in session.filters if "+" not in one]
        return [*own, topics.model_chunk(0, 0), topics.model_chunk(1, 1)]

    def _any(self) -> bytes:
        return self._chance.choice(self._past)[1]

    def _received(self, topic: str, payload: bytes) -> Received:
        return Received(topic, payload, retained=self._chance.random() < 0.3)

    def _happens(self, probability: float) -> bool:
        return self._chance.random() < probability


def body(payload: bytes) -> Message | None:
    """What stands in an envelope, for whoever may read it; None if it is no message."""
    if payload[:1] == bytes([SIGNED_MARK]):
        payload = payload[3 + int.from_bytes(payload[1:3], "little") + SIGNATURE_BYTES :]
    try:
        return decode(payload)
    except MessageError:
        return None


def twisted(message: Message | None, chance: random.Random) -> bytes:
    """The bytes of a message like this one, with what matters changed as would serve an enemy."""
    further = chance.choice([0, 1, 1000])
    match message:
        case None:
            return encode(Want(outbox=b"invented", sequence=further, chunks=(0,)))
        case Chunk():
            data = bytearray(message.data)
            data[chance.randrange(len(data))] ^= chance.randint(1, 255)
            return Chunk(message.key + further, message.index, bytes(data)).encode()
        case Header():
            changes: dict[str, Any] = {
                "version": message.version + further,
                "boot": message.boot + further,
                "founded": message.founded + further,
                "seal": chance.choice([b"", chance.randbytes(32)]),
                "signer": message.signer + further,
            }
        case Offer():
            changes = {"sequence": message.sequence + further, "examples": 2**39, "seal": b""}
        case Receipt():
            changes = {"sequence": message.sequence + further, "verdict": Verdict.ACCEPTED}
        case Want():
            # A verdict in the place of a question would make a device forget its update.
            receipt = Receipt(
                outbox=message.outbox, sequence=message.sequence, verdict=Verdict.KNOWN
            )
            return encode(receipt)
        case Pace():
            changes = {"wait_s": 86_400.0}
        case _:
            changes = {}
    return encode(message.model_copy(update=changes))


def is_chunk(payload: bytes) -> bool:
    """Whether this claims to be a chunk: that goes without a signature."""
    return payload[:1] == bytes([FRAME_MARK])


def flips(payload: bytes) -> Iterator[tuple[int, bytes]]:
    """The payload with each of its bytes altered in turn."""
    for place in range(len(payload)):
        changed = bytearray(payload)
        changed[place] ^= 1 << (place % 8)
        yield place, bytes(changed)
