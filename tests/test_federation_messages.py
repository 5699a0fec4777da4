"""Messages: every kind survives the wire, and no bytes at all do more than raise a MessageError."""

from __future__ import annotations

import tracemalloc
from typing import Any

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from config.settings import TrainingPlan
from federation.messages import (
    DIGEST_BYTES,
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    MAX_PAYLOAD_BYTES,
    Chunk,
    CoordinatorPresence,
    DevicePresence,
    Header,
    Hello,
    Manifest,
    MessageError,
    Offer,
    Pace,
    Reason,
    Receipt,
    Request,
    SmallMessage,
    State,
    Verdict,
    Want,
    decode,
    encode,
)

patiently = settings(deadline=None)
ID = b"12345678"
PAYLOAD = Manifest(size=1500, chunk_bytes=1024, digests=b"d" * 2 * DIGEST_BYTES)

EXAMPLES: dict[str, SmallMessage] = {
    "coordinator": CoordinatorPresence(
        state=State.ONLINE, ledger=ID, process=b"87654321", incarnation=3
    ),
    "device": DevicePresence(
        state=State.ONLINE,
        outbox=ID,
        process=ID,
        incarnation=1,
        agent="0.1.0",
        task="cifar10",
        paused="storage full",
        privacy="epsilon at most 4",
    ),
    "header": Header(
        ledger=ID,
        version=7,
        slot=1,
        codec="float32",
        payload=PAYLOAD,
        layout=(("weight", (3, 4)), ("bias", (4,))),
        task="cifar10",
        plan=TrainingPlan(),
        max_staleness=20,
        invited=0.5,
        draw=2,
    ),
    "hello": Hello(incarnation=1, ledger=ID, version=7, draw=2),
    "request": Request(version=7, chunks=(0, 5)),
    "offer": Offer(
        outbox=ID,
        sequence=4,
        ledger=ID,
        base_version=7,
        codec="int8",
        payload=PAYLOAD,
        examples=10_000,
        steps=313,
        train_s=12.5,
        metrics={"train_loss": 1.25, "held_out_accuracy": 0.5},
    ),
    "want": Want(outbox=ID, sequence=4, chunks=(1,)),
    "receipt": Receipt(
        outbox=ID, sequence=4, verdict=Verdict.REFUSED, reason=Reason.STALE, detail="missed 21"
    ),
    "pace": Pace(outbox=ID, sequence=4, wait_s=5.0, reason="too many uploads"),
}
KINDS = sorted(EXAMPLES)

identities = st.binary(min_size=8, max_size=8)
counts = st.integers(0, 2**53 - 1)
texts = st.text(max_size=300)
states = st.sampled_from(State)
indices = st.lists(st.integers(0, 2**20 - 1), min_size=1, max_size=64).map(tuple)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    chunk_bytes = draw(st.integers(1024, MAX_CHUNK_BYTES))
    count = draw(st.integers(1, 5))
    size = draw(st.integers((count - 1) * chunk_bytes + 1, count * chunk_bytes))
    digests = draw(st.binary(min_size=16 * count, max_size=16 * count))
    return Manifest(size=size, chunk_bytes=chunk_bytes, digests=digests)


metrics = st.dictionaries(
    st.from_regex(r"[a-z0-9_]{1,40}", fullmatch=True),
    st.floats(allow_nan=False, allow_infinity=False),
    max_size=5,
)
small_messages: st.SearchStrategy[SmallMessage] = st.one_of(
    st.builds(
        CoordinatorPresence, state=states, ledger=identities, process=identities, incarnation=counts
    ),
    st.builds(
        DevicePresence,
        state=states,
        outbox=identities,
        process=identities,
        incarnation=counts,
        agent=texts,
        task=texts,
        paused=texts,
        privacy=texts,
    ),
    st.builds(
        Header,
        ledger=identities,
        version=counts,
        slot=st.integers(0, 2**20 - 1),
        codec=texts,
        payload=manifests(),
        layout=st.just((("w", (2, 3)),)),
        task=texts,
        plan=st.just(TrainingPlan(epochs=2, codec="float32")),
        max_staleness=counts,
        invited=st.floats(0, 1, exclude_min=True),
        draw=counts,
    ),
    st.builds(
        Hello, incarnation=counts, ledger=st.none() | identities, version=counts, draw=counts
    ),
    st.builds(Request, version=counts, chunks=indices),
    st.builds(
        Offer,
        outbox=identities,
        sequence=counts,
        ledger=identities,
        base_version=counts,
        codec=texts,
        payload=manifests(),
        examples=st.integers(1, 2**40 - 1),
        steps=counts,
        train_s=st.floats(0, 1e9, exclude_max=True),
        metrics=metrics,
    ),
    st.builds(Want, outbox=identities, sequence=counts, chunks=indices),
    st.builds(
        Receipt,
        outbox=identities,
        sequence=counts,
        verdict=st.sampled_from(Verdict),
        reason=st.none() | st.sampled_from(Reason),
        detail=texts,
    ),
    st.builds(
        Pace,
        outbox=identities,
        sequence=counts,
        wait_s=st.floats(0, 86_400, exclude_min=True),
        reason=texts,
    ),
)
chunks = st.builds(
    Chunk, st.integers(0, 2**64 - 1), st.integers(0, 2**32 - 1), st.binary(min_size=1, max_size=50)
)
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=10)
    | st.binary(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


def wire(kind: str) -> dict[str, Any]:
    """The map that lies on the wire for the example of this kind."""
    fields = msgpack.unpackb(encode(EXAMPLES[kind]))
    assert isinstance(fields, dict)
    return fields


def refused(payload: bytes) -> str:
    """The line that says why this payload is no message."""
    with pytest.raises(MessageError) as caught:
        decode(payload)
    reason = str(caught.value)
    assert reason.isprintable()
    assert len(reason) <= 320
    return reason


def message_or_refused(payload: bytes) -> None:
    """Decode, and see that nothing but a MessageError of one line is raised."""
    try:
        decode(payload)
    except MessageError:
        refused(payload)


def refused_fields(fields: Any) -> str:
    return refused(msgpack.packb(fields))


# What is sent is received


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_of_each_kind_survives_the_wire(kind: str) -> None:
    assert decode(encode(EXAMPLES[kind])) == EXAMPLES[kind]


def test_there_is_an_example_of_every_kind() -> None:
    assert {example.kind for example in EXAMPLES.values()} == set(KINDS)
    assert len(KINDS) == len(SmallMessage.__args__)


@given(small_messages)
@patiently
def test_any_message_survives_the_wire(message: SmallMessage) -> None:
    assert decode(encode(message)) == message


@given(chunks)
@patiently
def test_any_chunk_survives_the_wire(chunk: Chunk) -> None:
    assert decode(chunk.encode()) == chunk


def test_a_chunk_is_a_frame_of_fourteen_bytes_and_its_data() -> None:
    frame = Chunk(key=1, index=2, data=b"data").encode()
    assert frame == bytes.fromhex("c1 01 0100000000000000 02000000") + b"data"


def test_small_messages_say_which_protocol_they_speak() -> None:
    assert all(wire(kind)["protocol"] == 1 for kind in KINDS)


def test_no_small_message_begins_like_a_chunk() -> None:
    assert all(encode(example)[0] != 0xC1 for example in EXAMPLES.values())


def test_fields_with_defaults_may_be_absent() -> None:
    fields = {"protocol": 1, "kind": "hello", "incarnation": 5}
    assert decode(msgpack.packb(fields)) == Hello(incarnation=5)


def test_a_whole_number_is_taken_for_a_real_one() -> None:
    assert decode(msgpack.packb(wire("pace") | {"wait_s": 5})) == EXAMPLES["pace"]


def test_of_a_doubled_field_the_last_one_counts() -> None:
    fields = [("protocol", 1), ("kind", "hello"), ("incarnation", 1), ("incarnation", 2)]
    doubled = b"\x84" + b"".join(msgpack.packb(k) + msgpack.packb(v) for k, v in fields)
    assert decode(doubled) == Hello(incarnation=2)


def test_a_message_that_is_too_large_is_not_sent() -> None:
    digests = bytes(DIGEST_BYTES * 8000)
    payload = Manifest(size=8000 * 1024, chunk_bytes=1024, digests=digests)
    header = EXAMPLES["header"].model_copy(update={"payload": payload})
    with pytest.raises(MessageError, match=r"a header of 12\d+ bytes .* choose larger chunks"):
        encode(header)


def test_a_message_does_not_change_once_made() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        Hello(incarnation=1).incarnation = 2  # type: ignore[misc]


# What is not a message is refused, whatever it is


@given(st.binary(max_size=300))
@patiently
def test_arbitrary_bytes_are_a_message_or_a_message_error(payload: bytes) -> None:
    message_or_refused(payload)


@given(
    st.one_of(small_messages.map(encode), chunks.map(Chunk.encode)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=4),
)
@patiently
def test_altered_messages_are_messages_or_message_errors(
    payload: bytes, changes: list[tuple[int, int]]
) -> None:
    altered = bytearray(payload)
    for at, value in changes:
        altered[at % len(altered)] = value
    message_or_refused(bytes(altered))


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_cut_short_anywhere_is_refused(kind: str) -> None:
    payload = encode(EXAMPLES[kind])
    for length in range(len(payload)):
        refused(payload[:length])


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_with_more_behind_it_is_refused(kind: str) -> None:
    assert "extra data" in refused(encode(EXAMPLES[kind]) + b"\x00")


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_message_with_a_foreign_value_is_a_message_or_a_message_error(
    kind: str, data: st.DataObject
) -> None:
    fields = wire(kind)
    fields[data.draw(st.sampled_from(sorted(fields)))] = data.draw(anything)
    message_or_refused(msgpack.packb(fields))


@given(anything)
@patiently
def test_any_other_map_is_a_message_error(value: Any) -> None:
    refused_fields({"protocol": 1, "kind": "offer", "value": value})
    refused_fields(value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_with_a_field_too_many_is_refused(kind: str) -> None:
    assert "Extra inputs are not permitted" in refused_fields(wire(kind) | {"surprise": 1})


@pytest.mark.parametrize("kind", KINDS)
def test_a_message_that_lacks_what_it_must_have_is_refused(kind: str) -> None:
    required = [
        name for name, field in type(EXAMPLES[kind]).model_fields.items() if field.is_required()
    ]
    assert required
    for name in [*required, "protocol", "kind"]:
        fields = wire(kind)
        del fields[name]
        refused_fields(fields)


@pytest.mark.parametrize("kind", ["", "Hello", "chunk", "hello ", 1, None, True, [1], {"a": 1}])
def test_an_unknown_kind_is_refused(kind: object) -> None:
    refused_fields(wire("hello") | {"kind": kind})


@pytest.mark.parametrize(
    "protocol", [0, 2, -1, 2**64 - 1, True, 1.0, "1", b"1", None, [1], {"a": 1}]
)
def test_another_protocol_is_refused(protocol: object) -> None:
    assert "is not 1" in refused_fields(wire("hello") | {"protocol": protocol})


@pytest.mark.parametrize("value", [None, True, 2, 1.5, "text", b"bytes", [1, 2], [["protocol", 1]]])
def test_what_is_no_map_is_refused(value: object) -> None:
    assert refused_fields(value) == "not a map"


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("hello", "incarnation", "1"),
        ("hello", "incarnation", True),
        ("hello", "incarnation", 1.0),
        ("hello", "incarnation", None),
        ("hello", "incarnation", -1),
        ("hello", "incarnation", 2**53),
        ("hello", "incarnation", 2**64 - 1),
        ("hello", "ledger", "12345678"),
        ("hello", "ledger", b"1234567"),
        ("hello", "ledger", b"123456789"),
        ("coordinator", "state", "sleeping"),
        ("coordinator", "state", "ONLINE"),
        ("coordinator", "state", True),
        ("coordinator", "state", ["online"]),
        ("device", "agent", "x" * 301),
        ("device", "agent", b"0.1.0"),
        ("device", "agent", 1),
        ("header", "slot", 2**20),
        ("header", "invited", 0.0),
        ("header", "invited", 1.01),
        ("header", "invited", float("nan")),
        ("header", "invited", True),
        ("header", "layout", "weights"),
        ("header", "payload", None),
        ("header", "plan", None),
        ("request", "chunks", []),
        ("request", "chunks", list(range(65))),
        ("request", "chunks", [-1]),
        ("request", "chunks", [2**20]),
        ("request", "chunks", [True]),
        ("request", "chunks", ["1"]),
        ("request", "chunks", {"0": 1}),
        ("offer", "examples", 0),
        ("offer", "examples", 2**40),
        ("offer", "train_s", -1.0),
        ("offer", "train_s", 1e9),
        ("offer", "train_s", float("nan")),
        ("offer", "train_s", float("inf")),
        ("offer", "metrics", {"loss": float("nan")}),
        ("offer", "metrics", {"loss": float("-inf")}),
        ("offer", "metrics", {"loss": "1"}),
        ("offer", "metrics", {"loss": True}),
        ("offer", "metrics", {"Loss!": 1.0}),
        ("offer", "metrics", {"loss\n": 1.0}),
        ("offer", "metrics", {"": 1.0}),
        ("offer", "metrics", {"x" * 41: 1.0}),
        ("offer", "metrics", {f"m{n}": 1.0 for n in range(33)}),
        ("offer", "metrics", [1.0]),
        ("receipt", "verdict", "perhaps"),
        ("receipt", "verdict", None),
        ("receipt", "reason", "because"),
        ("receipt", "reason", ""),
        ("pace", "wait_s", 0.0),
        ("pace", "wait_s", -5.0),
        ("pace", "wait_s", 86_401.0),
        ("pace", "wait_s", float("nan")),
        ("pace", "wait_s", float("inf")),
        ("pace", "wait_s", True),
        ("pace", "wait_s", "5"),
    ],
)
def test_a_value_of_wrong_type_or_out_of_bounds_is_refused_by_name(
    kind: str, name: str, value: object
) -> None:
    assert refused_fields(wire(kind) | {name: value}).startswith(f"{kind}.{name}")


@pytest.mark.parametrize("layout", [[], [["w", [0]]], [["w", [1]]] * 2, [["w"]], [None], ["w"]])
def test_a_header_without_a_true_layout_is_refused(layout: object) -> None:
    assert "Value error" in refused_fields(wire("header") | {"layout": layout})


@pytest.mark.parametrize(
    "changes",
    [
        {"epochs": "1"},
        {"epochs": 0},
        {"batch_size": 2.0},
        {"augment": 1},
        {"codec": 8},
        {"codec": "x" * 41},
        {"x": 1},
        {"codec": "zip", "epochs": 0},
    ],
)
def test_a_header_with_a_plan_that_the_settings_forbid_is_refused(
    changes: dict[str, object],
) -> None:
    fields = wire("header")
    fields["plan"] |= changes
    assert refused_fields(fields).startswith("header.plan")


def test_a_plan_with_a_codec_that_is_unknown_here_is_read_so_that_it_can_be_declined() -> None:
    fields = wire("header")
    fields["plan"] |= {"codec": "zip"}
    header = decode(msgpack.packb(fields))
    assert isinstance(header, Header)
    assert header.plan == TrainingPlan().model_copy(update={"codec": "zip"})
    assert decode(encode(header)) == header


def test_a_plan_may_leave_out_what_has_a_default() -> None:
    assert decode(msgpack.packb(wire("header") | {"plan": {}})) == EXAMPLES["header"]


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 0},
        {"size": 1024},
        {"size": 2049},
        {"size": MAX_PAYLOAD_BYTES + 1},
        {"size": True},
        {"size": 1500.0},
        {"chunk_bytes": 1023},
        {"chunk_bytes": MAX_CHUNK_BYTES + 1},
        {"digests": b""},
        {"digests": b"d" * 31},
        {"digests": b"d" * 48},
        {"digests": "d" * 32},
        {"more": 1},
    ],
)
def test_a_manifest_that_does_not_add_up_is_refused(changes: dict[str, object]) -> None:
    fields = wire("offer")
    fields["payload"] |= changes
    assert refused_fields(fields).startswith("offer.payload")


def test_a_manifest_says_where_each_chunk_lies() -> None:
    payload = Manifest(size=2500, chunk_bytes=1024, digests=b"a" * 16 + b"b" * 16 + b"c" * 16)
    assert payload.count == 3
    assert [payload.extent(i) for i in range(3)] == [(0, 1024), (1024, 2048), (2048, 2500)]
    assert [payload.digest(i) for i in range(3)] == [b"a" * 16, b"b" * 16, b"c" * 16]


@pytest.mark.parametrize(
    "fields",
    [
        {b"protocol": 1, b"kind": b"hello"},
        {"protocol": 1, b"kind": "hello", "incarnation": 1},
        {"protocol": 1, "kind": "hello", "incarnation": 1, b"draw": 1},
        {"protocol": 1, "kind": "hello", "incarnation": 1, 5: 1},
        {1: 1},
        {None: 1},
    ],
)
def test_keys_that_are_no_strings_are_refused(fields: object) -> None:
    refused_fields(fields)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        Chunk(1, 2, b"").encode(),
        b"\xc1\x02" + Chunk(1, 2, b"data").encode()[2:],
        Chunk(1, 2, bytes(MAX_CHUNK_BYTES + 1)).encode(),
    ],
    ids=["nothing", "mark only", "no data", "another protocol", "too large"],
)
def test_what_is_no_whole_chunk_is_refused(payload: bytes) -> None:
    refused(payload)


def test_the_largest_chunk_is_taken() -> None:
    largest = Chunk(1, 2, bytes(MAX_CHUNK_BYTES))
    assert decode(largest.encode()) == largest


def test_only_chunks_may_be_larger_than_a_small_message() -> None:
    assert "122881 bytes are over 122880" in refused(b"\x80" * (MAX_MESSAGE_BYTES + 1))


# What is hostile costs little


@pytest.mark.parametrize("depth", [3, 100, 1000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    refused(b"\x91" * depth + b"\xc0")
    fields = wire("device")
    del fields["state"]
    head = bytes([0x80 + len(fields) + 1]) + msgpack.packb(fields)[1:]
    refused(head + msgpack.packb("state") + b"\x91" * depth + b"\xc0")
    refused(b"\x81" + msgpack.packb("protocol") + b"\x91" * depth + b"\xc0")


def peak_bytes(payload: bytes) -> int:
    """The most memory that the refusal of a payload takes at a time."""
    tracemalloc.start()
    try:
        refused(payload)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("claim", [0xC6, 0xC9, 0xDB, 0xDD, 0xDF])
def test_a_hundred_bytes_that_claim_gigabytes_take_none(claim: int) -> None:
    whole = bytes([claim]) + b"\xff\xff\xff\xff" + bytes(95)
    inner = b"\x82" + msgpack.packb("protocol") + b"\x01" + msgpack.packb("kind") + whole
    assert peak_bytes(whole) < 100_000
    assert peak_bytes(inner[:100]) < 100_000


def test_a_thousand_arrays_in_each_other_take_little_for_what_they_claim() -> None:
    bomb = (b"\xdc\x10\x00" * 1000).ljust(MAX_MESSAGE_BYTES, b"\xc0")
    assert peak_bytes(bomb) < 50_000_000
    larger = (b"\xdc\xff\xff" * 1000).ljust(MAX_MESSAGE_BYTES, b"\xc0")
    assert peak_bytes(larger) < 100_000


def test_ten_thousand_foreign_fields_take_little() -> None:
    fields = wire("hello") | {f"k{n}": n for n in range(10_000)}
    assert peak_bytes(msgpack.packb(fields)) < 1_000_000


@pytest.mark.parametrize(
    "fields",
    [
        wire("hello") | {"a\nERROR forged": 1},
        wire("hello") | {"k" * 100_000: 1},
        wire("hello") | {"kind": "x\nERROR forged"},
        wire("hello") | {"kind": "k" * 100_000},
        wire("hello") | {"protocol": "1\n" * 50_000},
        wire("device") | {"state": "online\n" * 10_000},
        wire("header") | {"layout": [["a\nb", [1]]]},
        wire("header") | {"layout": [["x" * 100_000, [1]]]},
    ],
)
def test_nobody_writes_lines_of_our_log(fields: dict[str, object]) -> None:
    refused_fields(fields)
