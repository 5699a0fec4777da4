"""Each byte of each kind of message altered in turn: the one who hears it notices, every time.

A header, an offer, a receipt and the rest are heard on a signed session, chunks by the digests of
a signed header or offer. Nothing of a role changes but a count and a line in its log.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from federation.envelope import Verifier
from federation.machine import Log, Publish, Received
from federation.messages import (
    FRAME_MARK,
    SIGNED_MARK,
    Chunk,
    Hello,
    MessageError,
    Pace,
    Receipt,
    Request,
    SmallMessage,
    Verdict,
    Want,
    decode,
    encode,
)
from federation.session import Identity, Inbox, SessionEvent
from federation.signed_session import SignedSession
from tests.hostile_broker import flips
from tests.members import Authority
from tests.specimens import OUTBOX, TOPICS, a_birth, a_coordinator, a_header, an_offer, at
from tests.test_hostile_messages import (
    DOWN,
    HELLO_TIMERS,
    HERE,
    NOW_S,
    PAYLOAD,
    UP,
    Role,
    a_busy_agent,
    a_busy_coordinator,
    snapshot,
)

AUTHORITY = Authority(TOPICS)
SIGNERS = {role: AUTHORITY.signer(role) for role in ("", "one", "two")}
# What a coordinator that answers is known by: a chunk that is requested goes without a signature.
SIGNS_OF_LIFE = (*HELLO_TIMERS, "_silence", "solitude")


class Guarded:
    """A core behind a signed session, and nothing below it."""

    def __init__(self, role: Role, verifier: Verifier | None = None) -> None:
        self.core = role.core
        self.effects: list[Any] = []
        self._hear: Inbox = lambda event: None
        identity = Identity("test", (), lambda n: Publish(HERE, b"will"), 1)
        verifier = verifier or AUTHORITY.verifier()
        self.session = SignedSession(self._connect, identity, self._inbox, SIGNERS["one"], verifier)

    def hear(self, topic: str, payload: bytes) -> list[Any]:
        """Hand a message over as a broker would; what comes of it but log lines."""
        self.effects = []
        self._hear(Received(topic, payload))
        return [effect for effect in self.effects if not isinstance(effect, Log)]

    @property
    def noticed(self) -> int:
        """How many messages were not believed, or believed and not taken."""
        return sum(self.session.disbelieved.values()) + sum(self.core.counts.values())

    def withstands(
        self, topic: str, payloads: Iterable[bytes], without: tuple[str, ...] = ()
    ) -> None:
        """Each of them is noticed, and nothing comes of all of them together."""
        before = snapshot(self.core, without)
        for payload in payloads:
            told = self.noticed
            assert not self.hear(topic, payload), payload
            assert self.noticed == told + 1, payload
        assert snapshot(self.core, without) == before

    def _connect(self, identity: Identity, inbox: Inbox) -> Any:
        self._hear = inbox
        return None

    def _inbox(self, event: SessionEvent) -> None:
        self.effects += self.core.handle(event, at(NOW_S))
        self.core.validate()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    log = logging.getLogger("federation.signed_session")
    log.disabled = True
    yield
    log.disabled = False


def spoilt(payload: bytes) -> Iterator[bytes]:
    """Each byte altered, each length that is less; and what claims to be the other kind."""
    yield from (altered for _, altered in flips(payload))
    yield from (payload[:length] for length in range(1, len(payload)))
    yield bytes([FRAME_MARK if payload[0] == SIGNED_MARK else SIGNED_MARK]) + payload[1:]


def is_later(frame: bytes) -> bool:
    """Whether this is a chunk that claims to be of a version after 3."""
    try:
        chunk = decode(frame)
    except MessageError:
        return False
    return isinstance(chunk, Chunk) and chunk.key > 3


def signed(topic: str, message: SmallMessage, by: str) -> bytes:
    return SIGNERS[by].sign(Publish(topic, encode(message))).payload


TO_THE_COORDINATOR = {
    "an offer": (UP, an_offer(PAYLOAD, sequence=2, examples=1000)),
    "the offer of another update": (UP, an_offer(PAYLOAD, sequence=3)),
    "a hello": (UP, Hello(incarnation=(1 << 24) + 1)),
    "a request": (UP, Request(version=3, chunks=(0, 1))),
    "a birth": (HERE, a_birth(6)),
}
TO_A_DEVICE = {
    "a header": (TOPICS.model, a_header(PAYLOAD, version=4, boot=1, signer=1)),
    "a header that was asked for": (DOWN, a_header(PAYLOAD, version=4, boot=1, signer=1)),
    "a receipt": (DOWN, Receipt(outbox=OUTBOX, sequence=4, verdict=Verdict.ACCEPTED)),
    "a want": (DOWN, Want(outbox=OUTBOX, sequence=4, chunks=(0, 1))),
    "a pace": (DOWN, Pace(outbox=OUTBOX, sequence=4, wait_s=600.0, reason="too many")),
    "a coordinator's presence": (TOPICS.coordinator, a_coordinator(10)),
}


@pytest.mark.parametrize("what", TO_THE_COORDINATOR)
def test_a_coordinator_notices_each_altered_byte_of(what: str) -> None:
    topic, message = TO_THE_COORDINATOR[what]
    payload = signed(topic, message, by="one")
    role = Guarded(a_busy_coordinator())
    role.withstands(topic, spoilt(payload))
    told = role.noticed
    role.hear(topic, payload)
    assert role.noticed == told, "the true one is believed"


@pytest.mark.parametrize("what", TO_A_DEVICE)
def test_a_device_notices_each_altered_byte_of(what: str) -> None:
    topic, message = TO_A_DEVICE[what]
    payload = signed(topic, message, by="")
    role = Guarded(a_busy_agent())
    role.withstands(topic, spoilt(payload), SIGNS_OF_LIFE if topic == DOWN else ())
    told, before = role.noticed, snapshot(role.core)
    role.hear(topic, payload)
    assert role.noticed == told, "the true one is believed"
    assert snapshot(role.core) != before


def test_a_coordinator_notices_each_altered_byte_of_a_chunk() -> None:
    frame = Chunk(2, 1, PAYLOAD[1024:2048]).encode()
    role = Guarded(a_busy_coordinator())
    role.withstands(UP, spoilt(frame))
    assert role.hear(UP, frame), "the true one is kept"


def test_a_device_notices_each_altered_byte_of_a_chunk_of_a_model() -> None:
    frame = Chunk(3, 1, PAYLOAD[1024:2048]).encode()
    topic = TOPICS.model_chunk(1, 1)
    Guarded(a_busy_agent()).withstands(topic, (one for one in spoilt(frame) if not is_later(one)))
    for altered in filter(is_later, spoilt(frame)):
        # It claims to be of a later version: then the coordinator is asked for the right one.
        kinds = [type(effect).__name__ for effect in Guarded(a_busy_agent()).hear(topic, altered)]
        assert kinds == ["Unsubscribe", "Publish"]
    assert Guarded(a_busy_agent()).hear(topic, frame), "the true one is kept"


def test_a_device_notices_each_altered_byte_of_a_chunk_that_it_requested() -> None:
    frame = Chunk(3, 1, PAYLOAD[1024:2048]).encode()
    altered = (one for one in spoilt(frame) if not is_later(one))
    Guarded(a_busy_agent()).withstands(DOWN, altered, SIGNS_OF_LIFE)
    assert Guarded(a_busy_agent()).hear(DOWN, frame), "the true one is kept"
