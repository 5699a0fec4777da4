"""Quarantine in whole federations: what such a device sends enters nothing, and nothing stalls."""

from __future__ import annotations

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.machine import Level, Log
from tests.in_memory import World

DEVICES = [f"device-{n}" for n in range(4)]
changes = st.lists(
    st.tuples(st.floats(1, 60), st.sampled_from(DEVICES[:2]), st.booleans(), st.booleans()),
    max_size=6,
)
triggers = st.sampled_from(["buffer", "rounds", "immediate"])
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(seed=st.integers(0, 2**32), trigger=triggers, changes=changes)
def test_every_update_is_applied_or_refused_or_set_aside_exactly_once(
    seed: int, trigger: str, changes: list[tuple[float, str, bool, bool]]
) -> None:
    world = World(devices=4, seed=seed, aggregation={"trigger": trigger})
    for pause_s, device, to, restarts in changes:
        world.run(pause_s)
        world.set_quarantine(device, to=to)
        if restarts:
            world.restart_coordinator()
    assert world.run(2 * 3600, lambda: len(world.coordinator_disk.applied) >= 10)
    assert world.come_to_rest()
    disk = world.coordinator_disk
    refused = set(disk.refused)
    assert set(disk.applied) | disk.aside | refused == world.trained()
    assert not set(disk.applied) & (disk.aside | refused)
    assert not disk.aside & refused
    assert {str(reason) for reason in disk.refused.values()} <= {"quarantined"}


def test_no_version_that_begins_later_holds_an_update_of_a_device_in_quarantine() -> None:
    world = World(devices=4, aggregation={"buffer_size": 4})
    world.run(3600, lambda: len(world.coordinator_disk.versions) >= 5)
    world.set_quarantine("device-0", to=True)
    newest = len(world.coordinator_disk.versions) - 1
    assert world.run(3600, lambda: len(world.coordinator_disk.versions) >= newest + 6)
    applied = world.coordinator_disk.applied
    assert {v for id, v in applied.items() if id.device == "device-0" and v > newest + 1} == set()
    assert {id.device for id, v in applied.items() if v > newest + 1} == set(DEVICES[1:])


def test_a_device_in_quarantine_is_not_waited_for() -> None:
    world = World(devices=3, aggregation={"trigger": "rounds", "deadline_s": None})
    world.set_quarantine("device-0", to=True)
    assert world.run(3600, lambda: len(world.coordinator_disk.versions) >= 4)


def test_the_device_hears_why_and_says_so_and_is_welcome_again_when_it_is_let_out() -> None:
    world = World(devices=2, aggregation={"trigger": "immediate"})
    world.set_quarantine("device-0", to=True)
    log = world.agents["device-0"].logs
    assert world.run(3600, lambda: any("quarantined" in str(line.facts) for line in log))
    (line,) = [line for line in log if line.text == "update refused"][:1]
    assert line.level is Level.WARNING
    assert line.facts["reason"] == "quarantined: device-0 is in quarantine: a test"
    world.set_quarantine("device-0", to=False)
    applied = world.coordinator_disk.applied
    assert world.run(3600, lambda: any(id.device == "device-0" for id in applied))
    texts = [
        (line.text, line.facts["device"])
        for line in world.coordinator.logs
        if isinstance(line, Log) and "quarantine" in line.text
    ]
    assert texts == [
        ("device in quarantine", "device-0"),
        ("device let out of quarantine", "device-0"),
    ]
