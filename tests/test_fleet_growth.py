"""What one event costs a coordinator, and what one device does: neither grows with the fleet."""

from __future__ import annotations

import sys
import tracemalloc
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from config.settings import CoordinatorSettings
from coordinator.core import GRACE_S, CoordinatorCore, Self
from coordinator.vocabulary import Judge, Judged, Recollection, Screened, UpdateId, UploadOpened
from federation.machine import Linked, Tick
from federation.messages import Chunk, Hello
from tests.specimens import (
    LEDGER,
    OUTBOX,
    PROCESS,
    TOPICS,
    a_birth,
    a_payload,
    a_version,
    an_offer,
    at,
    heard,
)

PAYLOAD = a_payload(2500)
DEVICE_BYTES = 20_000
MANY = 800


class Gateway:
    """A coordinator's core, and a fleet: each tenth device pauses, half of them have delivered."""

    def __init__(self, devices: int, **aggregation: Any) -> None:
        rule = {"buffer_size": 50_000, "wait_for": devices, **aggregation}
        settings = CoordinatorSettings.model_validate(
            {
                "task": "task",
                "transfer": {"chunk_bytes": 1024},
                "uploads": {"at_once": 10_000},
                "aggregation": rule,
            }
        )
        memory = Recollection(LEDGER, a_version(5, PAYLOAD), {}, ())
        self.core = CoordinatorCore(Self(LEDGER, PROCESS, 1), TOPICS, settings, memory)
        self.take(Linked(1 << 24), 1.0)
        self.take(Tick(), 1 + GRACE_S)
        for number in range(devices):
            self.come(number)
        for number in range(1, devices, 2):
            self.deliver(number)
        assert self.core.progression.announced
        assert len(self.core.progression.buffer) == devices // 2

    def take(self, event: Any, now_s: float = 2.0) -> list[Any]:
        return self.core.handle(event, at(now_s))

    def come(self, number: int) -> None:
        """One more device is there."""
        device = f"device-{number}"
        paused = "storage full" if number % 10 == 9 else ""
        self.take(heard(TOPICS.device(device), a_birth(1, paused=paused)))
        self.take(heard(TOPICS.up(device), Hello(incarnation=1)))

    def deliver(self, number: int) -> None:
        """A device had an update accepted, and has another one under way."""
        device = f"device-{number}"
        self.offer(device, 0)
        self.take(UploadOpened(UpdateId(device, OUTBOX, 0), frozenset({0, 1, 2})))
        judged = self.take(Screened(UpdateId(device, OUTBOX, 0), 1.0 + number / 7, None))
        self.take(Judged(next(e for e in judged if isinstance(e, Judge))))
        self.offer(device, 1)
        self.take(UploadOpened(UpdateId(device, OUTBOX, 1), frozenset()))

    def offer(self, device: str, sequence: int) -> None:
        offer = an_offer(PAYLOAD, sequence=sequence, base_version=5)
        self.take(heard(TOPICS.up(device), offer))


def operations(work: Callable[[], object]) -> int:
    """How many operations the interpreter carries out for this, loops and all."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def costs(devices: int, **aggregation: Any) -> dict[str, int]:
    """The operations of one event of each kind, and of asking when the next one is due."""
    gateway = Gateway(devices, **aggregation)
    one, new = UpdateId("device-3", OUTBOX, 1), "device-new"
    offer = an_offer(PAYLOAD, sequence=1, base_version=5)
    chunk = [Chunk(1, n, PAYLOAD[1024 * n : 1024 * (n + 1)]).encode() for n in range(3)]
    events: dict[str, Any] = {
        "a tick": Tick(),
        "a chunk": heard(TOPICS.up("device-3"), chunk[0]),
        "another chunk": heard(TOPICS.up("device-3"), chunk[1]),
        "the last chunk": heard(TOPICS.up("device-3"), chunk[2]),
        "a screening": Screened(one, 1.5, None),
        "a verdict": Judged(Judge(one, offer, 1.5)),
        "a birth": heard(TOPICS.device(new), a_birth(1)),
        "a hello": heard(TOPICS.up("device-5"), Hello(incarnation=1)),
        "an offer": heard(TOPICS.up(new), an_offer(PAYLOAD, base_version=5)),
        "a pause": heard(TOPICS.device("device-5"), a_birth(1, paused="too hot")),
        "a farewell": heard(TOPICS.device("device-7"), b""),
    }
    gateway.take(Tick())  # what is done once only is done
    found = {}
    for name, event in events.items():
        found[name] = operations(lambda event=event: gateway.take(event))  # type: ignore[misc]
    found["when it is due"] = operations(lambda: gateway.core.next_tick_s)
    return found


@pytest.mark.parametrize(
    "rule",
    [{}, {"trigger": "rounds"}, {"trigger": "rounds", "fraction": 0.8}],
    ids=["buffer", "rounds", "rounds of most of the fleet"],
)
def test_an_event_costs_as_much_with_many_devices_as_with_few(rule: dict[str, Any]) -> None:
    few, many = costs(20, **rule), costs(MANY, **rule)
    for name, spent in many.items():
        assert spent < 1.2 * few[name] + 100, f"{name}: {few[name]} with 20 devices, now {spent}"


def test_a_device_takes_little_memory_and_none_of_it_is_a_tensor() -> None:
    gateway = Gateway(20)
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(20, 20 + MANY):
            gateway.come(number)
            gateway.deliver(number)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (after - before) / MANY < DEVICE_BYTES
