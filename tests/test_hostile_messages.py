"""Whatever strangers send, on whatever topic, moves nothing but a counter and a log line.

Said here of bytes that are no message, of messages that are not for the one who hears them, and
of messages that were true once. Who may write in whose name is for the rights on the broker.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import msgpack
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from config.settings import CoordinatorSettings
from coordinator import core as coordinator_core
from coordinator import vocabulary as cv
from device_agent import core as agent_core
from device_agent import vocabulary as av
from device_agent.presence import Self as AgentSelf
from federation.loopback import Faults, LoopbackSession
from federation.machine import Linked, Log, Publish, Received, Tick
from federation.messages import (
    MAX_CHUNK_BYTES,
    MAX_MESSAGE_BYTES,
    Chunk,
    Hello,
    Message,
    MessageError,
    Pace,
    Reason,
    Receipt,
    Request,
    State,
    Verdict,
    Want,
    decode,
    encode,
)
from federation.session import Identity
from federation.topics import Topics
from tests.in_memory import World
from tests.specimens import (
    LEDGER,
    OUTBOX,
    PROCESS,
    TOPICS,
    TRANSFER,
    a_birth,
    a_coordinator,
    a_death,
    a_header,
    a_payload,
    a_version,
    an_id,
    an_offer,
    at,
    heard,
)

PAYLOAD = a_payload(3000)  # three chunks
NOW_S = 100.0
FOREIGN = Topics("flockwise", "other")
HERE, UP, DOWN = TOPICS.device("one"), TOPICS.up("one"), TOPICS.down("one")
COORDINATOR_HEARS = (TOPICS.coordinator, HERE, UP, TOPICS.device("two"), TOPICS.up("two"))
AGENT_HEARS = (TOPICS.coordinator, TOPICS.model, TOPICS.model_chunk(1, 1), HERE, DOWN)
# A word from the coordinator to the device is a sign of life: the next hello need not wait long.
HELLO_TIMERS = ("_hello_s", "_hello_wait_s")


def snapshot(thing: Any, without: Iterable[str] = ()) -> Any:
    """All that an object remembers, down to numbers and texts, in a form that can be compared."""
    if thing is None or isinstance(thing, str | bytes | int | float | Enum | BaseModel):
        return thing
    if isinstance(thing, dict):
        return {key: snapshot(value) for key, value in thing.items()}
    if isinstance(thing, list | tuple):
        return [snapshot(value) for value in thing]
    if isinstance(thing, set | frozenset):
        return set(thing)
    names = set(getattr(thing, "__dict__", ()))
    for one in type(thing).__mro__:
        names.update(getattr(one, "__slots__", ()))
    assert names, f"nothing is known of {thing!r}"
    kept = {name: getattr(thing, name) for name in sorted(names - {"counts", *without})}
    return type(thing).__name__, {name: snapshot(value) for name, value in kept.items()}


@dataclass
class Role:
    """A core in the middle of its life, and what it is to withstand."""

    core: Any
    hears: tuple[str, ...]

    def withstands(self, topic: str, payload: bytes, *, timers: Iterable[str] = ()) -> None:
        """Hand a message over; nothing may change, and nothing may come of it but a log line."""
        before, due_s = snapshot(self.core, timers), self.core.next_tick_s
        told = sum(self.core.counts.values())
        for retained in (False, True):
            effects = self.core.handle(Received(topic, payload, retained), at(NOW_S))
            assert all(isinstance(effect, Log) for effect in effects), effects
            self.core.validate()
        assert snapshot(self.core, timers) == before
        assert self.core.next_tick_s <= due_s, "nobody may put off what is due"
        if not timers:
            assert sum(self.core.counts.values()) == told + 2


def a_busy_coordinator() -> Role:
    """One update waits in the buffer, one comes in from `one`, one from `two` is screened."""
    chosen = CoordinatorSettings(
        task="task", transfer=TRANSFER, aggregation={"buffer_size": 5, "deadline_s": None}
    )
    waiting = (cv.Accepted(an_id("three"), 3, 10),)
    settled = {("three", OUTBOX): 0, ("one", OUTBOX): 1}
    memory = cv.Recollection(LEDGER, a_version(3, PAYLOAD), settled, waiting)
    me = coordinator_core.Self(LEDGER, PROCESS, 2)
    core = coordinator_core.CoordinatorCore(me, TOPICS, chosen, memory)
    core.handle(Linked((2 << 24) + 1), at(0))
    core.handle(Tick(), at(1))
    for device, held in (("one", frozenset({0})), ("two", frozenset({0, 1, 2}))):
        core.handle(heard(TOPICS.device(device), a_birth(5)), at(NOW_S))
        core.handle(heard(TOPICS.up(device), an_offer(PAYLOAD, sequence=2)), at(NOW_S))
        core.handle(cv.UploadOpened(an_id(device, 2), held), at(NOW_S))
    assert core.progression.announced
    assert len(core.uploads) == 2
    return Role(core, COORDINATOR_HEARS)


def a_busy_agent() -> Role:
    """An update is on its way to the coordinator while a version is fetched, half of it here."""
    me = AgentSelf("one", OUTBOX, PROCESS, 2, "task", "1.0")
    offer = an_offer(PAYLOAD, sequence=4, base_version=2)
    core = agent_core.AgentCore(me, TOPICS, TRANSFER, 3, [offer], (LEDGER, 2))
    core.handle(Linked((2 << 24) + 1), at(NOW_S))
    core.handle(heard(HERE, a_birth((2 << 24) + 1, agent="1.0", task="task")), at(NOW_S))
    core.handle(heard(TOPICS.coordinator, a_coordinator(9)), at(NOW_S))
    core.handle(heard(TOPICS.model, a_header(PAYLOAD, version=3)), at(NOW_S))
    core.handle(av.Looked(""), at(NOW_S))
    core.handle(av.Prepared(a_header(PAYLOAD, version=3), frozenset({0})), at(NOW_S))
    assert core.work.phase.value == "fetching"
    assert core.delivery.due_s > NOW_S
    return Role(core, AGENT_HEARS)


ROLES = {"coordinator": a_busy_coordinator, "agent": a_busy_agent}
both = pytest.mark.parametrize("make", ROLES.values(), ids=ROLES)

SPECIMENS: tuple[bytes, ...] = (
    *(
        encode(message)
        for message in (
            a_coordinator(9),
            a_birth(5),
            a_death(5),
            a_header(PAYLOAD, version=3),
            Hello(incarnation=5),
            Request(version=3, chunks=(0, 1)),
            an_offer(PAYLOAD, sequence=2),
            Want(outbox=OUTBOX, sequence=4, chunks=(0,)),
            Receipt(outbox=OUTBOX, sequence=4, verdict=Verdict.ACCEPTED),
            Receipt(outbox=OUTBOX, sequence=4, verdict=Verdict.REFUSED, reason=Reason.STALE),
            Pace(outbox=OUTBOX, sequence=4, wait_s=10),
        )
    ),
    Chunk(2, 1, PAYLOAD[1024:2048]).encode(),
)


def is_message(payload: bytes) -> bool:
    try:
        decode(payload)
    except MessageError:
        return False
    return True


# Bytes that are no message


@both
@settings(max_examples=150, deadline=None)
@given(payload=st.binary(max_size=300).filter(lambda payload: not is_message(payload)))
def test_arbitrary_bytes_are_ignored(make: Callable[[], Role], payload: bytes) -> None:
    role = make()
    # An empty message on a device's topic takes its presence back, as MQTT has it.
    for topic in role.hears if payload else (TOPICS.coordinator,):
        role.withstands(topic, payload)


@both
@settings(max_examples=60, deadline=None)
@given(specimen=st.sampled_from(SPECIMENS[:-1]), share=st.floats(0, 1, exclude_max=True))
def test_truncated_messages_are_ignored(
    make: Callable[[], Role], specimen: bytes, share: float
) -> None:
    role = make()
    for topic in role.hears:
        role.withstands(topic, specimen[: max(1, int(share * len(specimen)))])


@both
@settings(max_examples=150, deadline=None)
@given(
    specimen=st.sampled_from(SPECIMENS[:-1]),
    place=st.integers(0, 10_000),
    change=st.integers(1, 255),
)
def test_messages_that_were_damaged_are_ignored(
    make: Callable[[], Role], specimen: bytes, place: int, change: int
) -> None:
    damaged = bytearray(specimen)
    damaged[place % len(specimen)] ^= change
    if is_message(bytes(damaged)):
        return  # another message altogether, and for the rights on the broker to prevent
    role = make()
    for topic in role.hears:
        role.withstands(topic, bytes(damaged))


@both
@pytest.mark.parametrize("extra", [b"\0", b"\xc0", SPECIMENS[0]])
def test_messages_with_something_after_them_are_ignored(
    make: Callable[[], Role], extra: bytes
) -> None:
    role = make()
    for specimen in SPECIMENS:
        for topic in role.hears:
            role.withstands(topic, specimen + extra)


@both
def test_oversized_messages_are_ignored(make: Callable[[], Role]) -> None:
    role = make()
    fields = msgpack.unpackb(SPECIMENS[4])
    large = msgpack.packb({**fields, "incarnation": "x" * MAX_MESSAGE_BYTES})
    for payload in (large, Chunk(2, 1, bytes(MAX_CHUNK_BYTES + 1)).encode(), b"\xdf" + b"\xff" * 4):
        for topic in role.hears:
            role.withstands(topic, payload)


@both
@pytest.mark.parametrize(
    "change",
    [
        {"protocol": 2},
        {"protocol": None},
        {"kind": "attack"},
        {"kind": None},
        {"extra": 1},
        {"outbox": b"short"},
        {"ledger": "ledger-1"},
        {"incarnation": -1},
        {"sequence": 2**53},
        {"version": 1.5},
        {"chunks": []},
        {"chunks": [0] * 65},
        {"payload": {"size": 1, "chunk_bytes": 1024, "digests": b"x" * 32}},
        {"payload": {"size": 2**33, "chunk_bytes": 1024, "digests": b"x" * 16}},
        {"metrics": {"loss": float("nan")}},
        {"metrics": {"A Loss": 1.0}},
        {"layout": [["w", [2]], ["w", [2]]]},
        {"plan": {"learning_rate": -1.0}},
        {"invited": 0.0},
        {"wait_s": float("inf")},
        {"state": "asleep"},
    ],
    ids="-".join,
)
def test_fields_that_are_unknown_or_out_of_bounds_are_ignored(
    make: Callable[[], Role], change: dict[str, Any]
) -> None:
    role = make()
    for specimen in SPECIMENS[:-1]:
        fields = msgpack.unpackb(specimen)
        if not set(change) & {*fields, "extra"}:
            continue
        payload = msgpack.packb({**fields, **change})
        assert not is_message(payload)
        for topic in role.hears:
            role.withstands(topic, payload)


# Messages for somebody else

EXPECTED: dict[str, set[type]] = {
    TOPICS.coordinator: {type(a_coordinator(1))},
    TOPICS.model: {type(a_header())},
    TOPICS.model_chunk(1, 1): {Chunk},
    HERE: {type(a_birth(1))},
    TOPICS.device("two"): {type(a_birth(1))},
    UP: {Hello, type(an_offer()), Chunk, Request},
    TOPICS.up("two"): {Hello, type(an_offer()), Chunk, Request},
    DOWN: {Want, Receipt, Pace, type(a_header()), type(a_coordinator(1)), Chunk},
}


@both
def test_messages_that_have_no_business_on_their_topic_are_ignored(
    make: Callable[[], Role],
) -> None:
    role = make()
    for topic in role.hears:
        for specimen in SPECIMENS:
            if type(decode(specimen)) not in EXPECTED[topic]:
                role.withstands(topic, specimen)


@both
@pytest.mark.parametrize(
    "topic",
    [
        FOREIGN.coordinator,
        FOREIGN.model,
        FOREIGN.model_chunk(0, 0),
        FOREIGN.device("one"),
        FOREIGN.up("one"),
        FOREIGN.down("one"),
        "flockwise/test",
        "flockwise/test/",
        "flockwise/test/device/one/up/more",
        "flockwise/test/device/ONE/up",
        "flockwise/test/device/" + "x" * 41,
        "flockwise/test/model/1/-1",
        "flockwise/test/model/0001/1",
        "\ufffd" * 1000,
        "",
    ],
)
def test_topics_of_another_federation_or_none_are_ignored(
    make: Callable[[], Role], topic: str
) -> None:
    role = make()
    for specimen in (*SPECIMENS, b"", b"\0"):
        role.withstands(topic, specimen)


def test_an_agent_does_not_listen_to_what_is_said_to_another() -> None:
    role = a_busy_agent()
    for topic in (TOPICS.device("two"), TOPICS.up("two"), TOPICS.down("two"), UP):
        for specimen in SPECIMENS:
            role.withstands(topic, specimen)


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(2, 0, PAYLOAD[:1024]),
        Chunk(2, 1, PAYLOAD[:1024]),
        Chunk(2, 1, PAYLOAD[1024:2047]),
        Chunk(2, 1, PAYLOAD[1024:2049]),
        Chunk(2, 3, b"x"),
        Chunk(2, 2**32 - 1, b"x"),
        Chunk(1, 1, PAYLOAD[1024:2048]),
        Chunk(2**64 - 1, 1, PAYLOAD[1024:2048]),
    ],
    ids=["held", "altered", "short", "long", "beyond", "far", "judged", "never offered"],
)
def test_a_coordinator_ignores_chunks_that_it_does_not_lack(chunk: Chunk) -> None:
    role = a_busy_coordinator()
    for topic in (UP, TOPICS.up("two"), TOPICS.up("nobody")):
        # The very chunk that is missing is the one that `one` may send.
        if (chunk.key, chunk.data) != (2, PAYLOAD[1024:2048]):
            role.withstands(topic, chunk.encode())


def test_a_coordinator_ignores_what_is_missing_of_one_device_from_another() -> None:
    missing = Chunk(2, 1, PAYLOAD[1024:2048]).encode()
    role = a_busy_coordinator()
    role.withstands(TOPICS.up("two"), missing)
    role.withstands(TOPICS.up("nobody"), missing)


@pytest.mark.parametrize(
    ("chunk", "index"),
    [
        (Chunk(3, 0, PAYLOAD[:1024]), 0),
        (Chunk(3, 1, PAYLOAD[:1024]), 1),
        (Chunk(3, 1, PAYLOAD[1024:2047]), 1),
        (Chunk(3, 1, PAYLOAD[1024:2048]), 2),
        (Chunk(3, 9, b"x"), 9),
        (Chunk(2, 1, PAYLOAD[1024:2048]), 1),
        (Chunk(99, 9, PAYLOAD[1024:2048]), 9),
    ],
    ids=["held", "altered", "short", "on another's topic", "beyond", "older", "not asked for"],
)
def test_an_agent_ignores_chunks_that_it_does_not_lack(chunk: Chunk, index: int) -> None:
    a_busy_agent().withstands(TOPICS.model_chunk(1, index), chunk.encode())


@pytest.mark.parametrize(("outbox", "sequence"), [(b"outbox-2", 4), (OUTBOX, 3), (OUTBOX, 5)])
def test_an_agent_ignores_verdicts_on_updates_that_are_not_its_own(
    outbox: bytes, sequence: int
) -> None:
    role = a_busy_agent()
    for message in (
        Want(outbox=outbox, sequence=sequence, chunks=(0, 1)),
        Receipt(outbox=outbox, sequence=sequence, verdict=Verdict.ACCEPTED),
        Receipt(outbox=outbox, sequence=sequence, verdict=Verdict.KNOWN),
        Pace(outbox=outbox, sequence=sequence, wait_s=86_400),
    ):
        role.withstands(DOWN, encode(message), timers=HELLO_TIMERS)


def test_late_words_about_who_is_there_are_ignored() -> None:
    agent, coordinator = a_busy_agent(), a_busy_coordinator()
    for late in (a_coordinator(8), a_coordinator(3, process=b"process0")):
        gone = late.model_copy(update={"state": State.OFFLINE})
        for message in (late, gone):
            before = snapshot(agent.core)
            assert agent.core.handle(heard(TOPICS.coordinator, message), at(NOW_S)) == []
            assert snapshot(agent.core) == before
    for message in (a_birth(4), a_death(4)):
        before = snapshot(coordinator.core)
        assert coordinator.core.handle(heard(HERE, message), at(NOW_S)) == []
        assert snapshot(coordinator.core) == before
    before = snapshot(coordinator.core)
    effects = coordinator.core.handle(heard(UP, Hello(incarnation=4)), at(NOW_S))
    assert [type(effect) for effect in effects] == [Publish], "it costs an answer"
    assert snapshot(coordinator.core) == before


# Messages that were true once


@dataclass
class Finished:
    """A federation at rest after a life with kills, and every message that was ever sent in it."""

    world: World
    sent: list[Publish]


def a_finished_run() -> Finished:
    world = World(seed=7, faults=Faults(delay_s=(0.001, 0.3)), aggregation={"max_staleness": 4})
    sent: list[Publish] = []
    accept = world.broker.accept

    def recorded(message: Publish) -> None:
        sent.append(message)
        accept(message)

    world.broker.accept = recorded  # type: ignore[method-assign]
    for pause_s, kill in (
        (30, lambda: world.restart_agent("device-0")),
        (30, world.broker.forget_everything),
        (30, world.restart_coordinator),
        (30, lambda: world.restart_agent("device-1")),
        (30, lambda: None),
    ):
        world.run(pause_s)
        kill()
    assert world.come_to_rest()
    world.run(600)
    assert world.at_rest()
    assert len(world.coordinator_disk.versions) > 3
    kinds = {type(decode(message.payload)).__name__ for message in sent}
    assert kinds >= {"Offer", "Want", "Receipt", "Chunk", "Hello", "Header", "DevicePresence"}
    return Finished(world, sent)


@pytest.fixture(scope="module")
def finished() -> Finished:
    return a_finished_run()


def answers(message: Message) -> tuple[type, ...]:
    """What a question may be answered with, however old: an answer costs and changes nothing."""
    match message:
        case Hello() | Request():
            return (Log, Publish, cv.ServeChunk)
    return (Log, Publish) if type(message) is type(an_offer()) else (Log,)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(order=st.randoms(use_true_random=False), retained=st.booleans())
def test_replaying_a_whole_run_in_any_order_changes_nothing(
    finished: Finished, order: random.Random, retained: bool
) -> None:
    world = finished.world
    messages = list(dict.fromkeys((m.topic, m.payload) for m in finished.sent))
    order.shuffle(messages)
    moment = at(world.time.now_s)
    for party in (world.coordinator, *world.agents.values()):
        before, due_s = snapshot(party.core, HELLO_TIMERS), party.core.next_tick_s
        for topic, payload in messages:
            effects = party.core.handle(Received(topic, payload, retained), moment)
            party.core.validate()
            message = decode(payload)
            assert all(isinstance(effect, answers(message)) for effect in effects), message
            replies = [decode(e.payload) for e in effects if isinstance(e, Publish)]
            for reply in replies:
                assert not isinstance(reply, Receipt) or reply.verdict is Verdict.KNOWN
        assert snapshot(party.core, HELLO_TIMERS) == before
        assert party.core.next_tick_s <= due_s, "nobody may put off what is due"


# An attacker in the midst of a federation


class Attacker:
    """A session of its own that publishes on all topics, retained or not, as chance will have it.

    It sends garbage, halves of messages, and whatever it has overheard.
    """

    def __init__(self, world: World, seed: int, pause_s: float) -> None:
        self._world = world
        self._random = random.Random(seed)
        self._pause_s = pause_s
        self._overheard: list[tuple[str, bytes]] = []
        self.sent = 0
        will = Publish(TOPICS.coordinator, b"not even a will")
        filters = tuple(f"{TOPICS.root}{f}" for f in ("+", "device/+", "device/+/+", "model/+/+"))
        identity = Identity("attacker", filters, lambda _: will, 1)
        self.session = LoopbackSession(world.broker, identity, self._hear)
        self.session.start()
        world.time.call_in(1, self._strike)

    def _hear(self, event: Any) -> None:
        if isinstance(event, Received) and is_message(event.payload):
            self._overheard.append((event.topic, event.payload))

    def _strike(self) -> None:
        self.session.publish(self._message())
        self.sent += 1
        self._world.time.call_in(self._random.uniform(0, 2 * self._pause_s), self._strike)

    def _message(self) -> Publish:
        topics = [TOPICS.coordinator, TOPICS.model, TOPICS.model_chunk(0, 0)]
        topics += [TOPICS.model_chunk(1, n) for n in range(3)]
        for device in (*self._world.agents, "nobody"):
            topics += [TOPICS.device(device), TOPICS.up(device), TOPICS.down(device)]
        topic = self._random.choice(topics)
        payload = self._random.randbytes(self._random.choice([1, 20, 300]))
        if self._overheard:
            known, message = self._random.choice(self._overheard)
            match self._random.randrange(4):
                case 0:
                    topic, payload = known, message
                case 1:
                    payload = message[: self._random.randrange(1, len(message))]
        retain = self._random.random() < 0.5
        return Publish(topic, payload, qos=self._random.randrange(2), retain=retain)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    seed=st.integers(0, 2**32),
    faults=st.builds(Faults, loss=st.floats(0, 0.1), duplication=st.floats(0, 0.3)),
    pause_s=st.sampled_from([0.05, 0.5, 5.0]),
)
def test_an_attacker_without_a_name_stops_nobody_and_doubles_nothing(
    seed: int, faults: Faults, pause_s: float
) -> None:
    world = World(seed=seed, faults=faults)
    attacker = Attacker(world, seed, pause_s)
    assert world.run(3600, lambda: len(world.trained()) >= 20)
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()
    assert len(world.coordinator_disk.versions) > 1
    assert attacker.sent > 0
    for party in (world.coordinator, *world.agents.values()):
        assert party.stopped is None
