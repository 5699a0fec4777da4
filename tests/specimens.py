"""Messages and facts at hand for tests: valid ones, with what matters to a test set by it."""

from __future__ import annotations

from typing import Any

from config.settings import TrainingPlan, Transfer
from coordinator import vocabulary as cv
from federation.layout import Layout, TensorSpec
from federation.machine import Moment, Publish, Received
from federation.messages import (
    CoordinatorPresence,
    DevicePresence,
    Header,
    Message,
    Offer,
    SmallMessage,
    State,
    decode,
    encode,
)
from federation.topics import Topics
from federation.transfer import manifest_of

TOPICS = Topics("flockwise", "test")
LEDGER = b"ledger-1"
OUTBOX = b"outbox-1"
PROCESS = b"process1"
CHUNK_BYTES = 1024
TRANSFER = Transfer(chunk_bytes=CHUNK_BYTES, silence_s=4.0, patience_s=2.0)


def at(now_s: float = 0.0, chance: float = 0.0) -> Moment:
    return Moment(now_s, chance)


def a_layout(d: int) -> Layout:
    return Layout((TensorSpec("w", (d,)),))


def a_payload(size: int, seed: int = 0) -> bytes:
    """Bytes of which no two chunks are the same."""
    return bytes((n // CHUNK_BYTES + n + seed) % 251 for n in range(size))


def an_offer(payload: bytes = bytes(8), **fields: Any) -> Offer:
    known = {
        "outbox": OUTBOX,
        "sequence": 0,
        "ledger": LEDGER,
        "base_version": 0,
        "codec": "float32",
        "payload": manifest_of(payload, CHUNK_BYTES),
        "examples": 10,
        "steps": 5,
        "train_s": 1.0,
        "metrics": {"loss": 0.5},
    }
    return Offer(**{**known, **fields})


def a_header(payload: bytes = bytes(8), **fields: Any) -> Header:
    d = len(payload) // 4
    known = {
        "ledger": LEDGER,
        "version": 0,
        "slot": fields.get("version", 0) % 2,
        "codec": "float32",
        "payload": manifest_of(payload, CHUNK_BYTES),
        "layout": tuple(a_layout(d).to_wire()),
        "task": "task",
        "plan": TrainingPlan(),
        "max_staleness": 5,
        "invited": 1.0,
    }
    return Header(**{**known, **fields})


def a_birth(incarnation: int, **fields: Any) -> DevicePresence:
    known = {"state": State.ONLINE, "outbox": OUTBOX, "process": PROCESS}
    return DevicePresence(**{**known, "incarnation": incarnation, **fields})


def a_death(incarnation: int, **fields: Any) -> DevicePresence:
    return a_birth(incarnation, state=State.OFFLINE, **fields)


def a_coordinator(incarnation: int, **fields: Any) -> CoordinatorPresence:
    known = {"state": State.ONLINE, "ledger": LEDGER, "process": PROCESS}
    return CoordinatorPresence(**{**known, "incarnation": incarnation, **fields})


def an_id(device: str = "one", sequence: int = 0, outbox: bytes = OUTBOX) -> cv.UpdateId:
    return cv.UpdateId(device, outbox, sequence)


def accepted(
    device: str = "one", sequence: int = 0, base: int = 0, examples: int = 10, norm: float = 1.0
) -> Any:
    return cv.Accepted(an_id(device, sequence), base, examples, norm)


def a_version(version: int, payload: bytes = bytes(8)) -> cv.VersionInfo:
    manifest = manifest_of(payload, CHUNK_BYTES)
    return cv.VersionInfo(version, "float32", manifest, a_layout(len(payload) // 4))


def heard(topic: str, message: SmallMessage | bytes, retained: bool = False) -> Received:
    return Received(topic, message if isinstance(message, bytes) else encode(message), retained)


def told(effects: Any, topic: str | None = None) -> list[Message]:
    """The messages among effects, in order; those on one topic, if it is named."""
    return [
        decode(effect.payload)
        for effect in effects
        if isinstance(effect, Publish) and topic in (None, effect.topic)
    ]


def kinds(effects: Any) -> list[str]:
    """The names of effects, in order."""
    return [type(effect).__name__ for effect in effects]
