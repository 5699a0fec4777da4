"""Every message of Flockwise, and the only way from bytes to one of them.

A small message is one msgpack map with the protocol's version and a `kind`; a chunk is a fixed
binary frame, so that bulk bytes never pass through msgpack. The first byte tells the two apart:
a frame starts with 0xC1, the one byte that msgpack never uses. `decode` checks size, version,
kind, types and bounds before anything is believed, and raises nothing but `MessageError`. The
module is long because every kind of message stands in it.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

import msgpack
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from config.settings import TrainingPlan
from federation.layout import MAX_TENSORS, Layout, LayoutError
from federation.sizes import CODECS

PROTOCOL = 1
MAX_MESSAGE_BYTES = 120 * 1024
MAX_CHUNK_BYTES = 1024 * 1024
DIGEST_BYTES = 16
MAX_PAYLOAD_BYTES = 2**32
MAX_FIELDS = 64

FRAME_MARK = 0xC1
# What an envelope begins with: in msgpack the number 1, and so never a message.
SIGNED_MARK = 0x01
_FRAME = struct.Struct("<BBQI")

Count = Annotated[int, Field(ge=0, lt=2**53)]
Index = Annotated[int, Field(ge=0, lt=2**20)]
Identity = Annotated[bytes, Field(min_length=8, max_length=8)]
Text = Annotated[str, Field(max_length=300)]
Metrics = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")],
        Annotated[float, Field(allow_inf_nan=False)],
    ],
    Field(max_length=32),
]


class MessageError(ValueError):
    """Bytes that are no message of this protocol; the reason is one line."""


class State(StrEnum):
    """Whether the one who says so is there."""

    ONLINE = "online"
    OFFLINE = "offline"


class Verdict(StrEnum):
    """What became of an update that was offered."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    KNOWN = "known"  # it was judged before, and that receipt was lost


class Reason(StrEnum):
    """Why an update was refused."""

    STALE = "stale"
    UNKNOWN_BASE = "unknown base"
    BAD_SHAPE = "bad shape"
    NOT_FINITE = "not finite"
    BAD_SEAL = "bad seal"
    NORM = "norm"
    QUARANTINED = "quarantined"


def _member(kind: type[StrEnum]) -> BeforeValidator:
    """Take a word for the member of an enum; how that is called is not for pydantic to guess."""

    def read(word: Any) -> StrEnum:
        return kind(word)

    return BeforeValidator(read)


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Manifest(_Message):
    """What a payload is cut into: its size in bytes, and a digest for each chunk of it."""

    size: Annotated[int, Field(ge=1, le=MAX_PAYLOAD_BYTES)]
    chunk_bytes: Annotated[int, Field(ge=1024, le=MAX_CHUNK_BYTES)]
    digests: Annotated[bytes, Field(min_length=DIGEST_BYTES)]

    @model_validator(mode="after")
    def _one_digest_a_chunk(self) -> Manifest:
        if len(self.digests) != DIGEST_BYTES * self.count:
            raise ValueError(f"{self.count} chunks need {DIGEST_BYTES * self.count} digest bytes")
        return self

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.size // self.chunk_bytes)

    def extent(self, index: int) -> tuple[int, int]:
        """Where chunk `index` begins and ends in the payload, in bytes."""
        start = index * self.chunk_bytes
        return start, min(start + self.chunk_bytes, self.size)

    def digest(self, index: int) -> bytes:
        """The digest that chunk `index` has to have."""
        return self.digests[DIGEST_BYTES * index : DIGEST_BYTES * (index + 1)]


class CoordinatorPresence(_Message):
    """Retained on the coordinator's topic, and its will; `process` as in `DevicePresence`."""

    kind: Literal["coordinator"] = "coordinator"
    state: Annotated[State, _member(State)]
    ledger: Identity
    process: Identity
    incarnation: Count


class DevicePresence(_Message):
    """Retained on the device's topic, and its will.

    `process` is drawn at each start of an agent: it tells two agents that use one id apart, even
    when one runs on a copy of the other's disk. `paused` is why the device does not work for now,
    as "storage full"; empty if it may. `privacy` is what its noise promises, told for people; empty
    without noise.
    """

    kind: Literal["device"] = "device"
    state: Annotated[State, _member(State)]
    outbox: Identity
    process: Identity
    incarnation: Count
    agent: Text = ""
    task: Text = ""
    paused: Text = ""
    privacy: Text = ""


def _with_any_codec(plan: Any, read: ValidatorFunctionWrapHandler) -> TrainingPlan:
    """A plan whose codec is unknown here is well formed: its reader says what is the matter."""
    codec = plan.get("codec") if isinstance(plan, dict) else None
    if not isinstance(codec, str) or codec in CODECS or len(codec) > 40:
        known: TrainingPlan = read(plan)
        return known
    known = read({**plan, "codec": "float32"})
    return known.model_copy(update={"codec": codec})


class Header(_Message):
    """The current version: where its chunks lie, what it is, and what to do with it.

    `boot` counts the coordinator's starts and `draw` its invitations to this version: what a later
    start says is news, even of the same version. `founded` is when the ledger was made, in seconds
    since 1970: of two ledgers the later one counts. `seal` is the X25519 key to which updates are
    sealed, empty where they are not; `signer` is the epoch of the coordinator's credential.
    """

    kind: Literal["header"] = "header"
    ledger: Identity
    version: Count
    slot: Index
    codec: Text
    payload: Manifest
    layout: Annotated[tuple[Any, ...], Field(max_length=MAX_TENSORS)]
    task: Text
    plan: Annotated[TrainingPlan, WrapValidator(_with_any_codec)]
    max_staleness: Count
    invited: Annotated[float, Field(gt=0, le=1)]
    boot: Count = 0
    draw: Count = 0
    founded: Count = 0
    seal: Annotated[bytes, Field(max_length=32)] = b""
    signer: Count = 0

    @model_validator(mode="after")
    def _layout_is_one(self) -> Header:
        try:
            Layout.from_wire(self.layout)
        except LayoutError as error:
            raise ValueError(str(error)) from error
        return self

    @property
    def age(self) -> tuple[int, int, int]:
        """What makes one header of a ledger later than another: boot, version, draw."""
        return self.boot, self.version, self.draw


class Hello(_Message):
    """A device tells which header it knows, and hears the current one if that is another.

    It says so when the broker handed no header over, and after a long silence; it also stands in
    for a presence that was lost.
    """

    kind: Literal["hello"] = "hello"
    incarnation: Count
    ledger: Identity | None = None
    boot: Count = 0
    version: Count = 0
    draw: Count = 0


class Request(_Message):
    """A device asks for chunks of a version that the broker did not deliver."""

    kind: Literal["request"] = "request"
    version: Count
    chunks: Annotated[tuple[Index, ...], Field(min_length=1, max_length=64)]


class Offer(_Message):
    """A device has an update. (device, outbox, sequence) names it for ever.

    `seal` names the key to which its payload is sealed; it is empty if it is not.
    """

    kind: Literal["offer"] = "offer"
    outbox: Identity
    sequence: Count
    ledger: Identity
    base_version: Count
    codec: Text
    payload: Manifest
    examples: Annotated[int, Field(ge=1, lt=2**40)]
    steps: Count
    train_s: Annotated[float, Field(ge=0, lt=1e9)]
    metrics: Metrics = {}
    seal: Annotated[bytes, Field(max_length=8)] = b""


class Want(_Message):
    """The coordinator's credit to send these chunks now."""

    kind: Literal["want"] = "want"
    outbox: Identity
    sequence: Count
    chunks: Annotated[tuple[Index, ...], Field(min_length=1, max_length=64)]


class Receipt(_Message):
    """The coordinator has judged the update for good: the device may forget it."""

    kind: Literal["receipt"] = "receipt"
    outbox: Identity
    sequence: Count
    verdict: Annotated[Verdict, _member(Verdict)]
    reason: Annotated[Reason, _member(Reason)] | None = None
    detail: Text = ""


class Pace(_Message):
    """Not now: offer this update again after so many seconds."""

    kind: Literal["pace"] = "pace"
    outbox: Identity
    sequence: Count
    wait_s: Annotated[float, Field(gt=0, le=86_400)]
    reason: Text = ""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a payload. `key` is a model's version on the way down, a sequence on the way up.

    Whether it is the right piece only its digest in the manifest tells.
    """

    key: int
    index: int
    data: bytes

    def encode(self) -> bytes:
        """The frame: 0xC1, protocol, key (uint64), index (uint32), little-endian; then the data."""
        return _FRAME.pack(FRAME_MARK, PROTOCOL, self.key, self.index) + self.data


SmallMessage: TypeAlias = (
    CoordinatorPresence | DevicePresence | Header | Hello | Request | Offer | Want | Receipt | Pace
)
Message: TypeAlias = SmallMessage | Chunk

_SMALL: TypeAdapter[SmallMessage] = TypeAdapter(
    Annotated[SmallMessage, Field(discriminator="kind")]
)


def encode(message: SmallMessage) -> bytes:
    """The message as one msgpack map.

    Raises:
        MessageError: it would not fit into `MAX_MESSAGE_BYTES`.
    """
    fields = message.model_dump(warnings=False)  # a codec may be unknown here
    payload: bytes = msgpack.packb({"protocol": PROTOCOL, **fields})
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageError(
            f"a {message.kind} of {len(payload)} bytes is over {MAX_MESSAGE_BYTES}; "
            "choose larger chunks"
        )
    return payload


def decode(payload: bytes) -> Message:
    """The message that `payload` holds.

    Raises:
        MessageError: oversize, truncated, of another protocol, of an unknown kind, or with
            fields missing, unknown, of wrong type or out of bounds.
    """
    if not payload:
        raise MessageError("empty payload")
    if payload[0] == FRAME_MARK:
        return _decode_chunk(payload)
    if payload[0] == SIGNED_MARK:
        raise MessageError("it is signed, and this role has no membership to believe it by")
    if len(payload) > MAX_MESSAGE_BYTES:
        raise MessageError(f"{len(payload)} bytes are over {MAX_MESSAGE_BYTES}")
    try:
        # Room is made for an array before its items are seen, so the claim is bounded here.
        fields = msgpack.unpackb(
            payload, use_list=False, max_array_len=MAX_TENSORS, max_map_len=MAX_FIELDS
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise MessageError(f"no msgpack: {str(error) or type(error).__name__}") from None
    if not isinstance(fields, dict):
        raise MessageError("not a map")
    spoken = fields.pop("protocol", None)
    if type(spoken) is not int or spoken != PROTOCOL:
        told = spoken if type(spoken) is int else type(spoken).__name__
        raise MessageError(f"protocol {told} is not {PROTOCOL}")
    try:
        return _SMALL.validate_python(fields, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise MessageError(_one_line(f"{where}: {first['msg']}")) from None
    except RecursionError:
        raise MessageError("nested too deeply") from None


def _one_line(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])


def _decode_chunk(payload: bytes) -> Chunk:
    if len(payload) <= _FRAME.size:
        raise MessageError(f"a chunk of {len(payload)} bytes is truncated")
    if len(payload) > _FRAME.size + MAX_CHUNK_BYTES:
        raise MessageError(f"a chunk of {len(payload)} bytes is over {MAX_CHUNK_BYTES}")
    _, protocol, key, index = _FRAME.unpack_from(payload)
    if protocol != PROTOCOL:
        raise MessageError(f"protocol {protocol} is not {PROTOCOL}")
    return Chunk(key, index, payload[_FRAME.size :])
