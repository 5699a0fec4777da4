"""The cooldown in whole federations: everyone has a turn, and nobody waits for ever."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.loopback import Faults
from tests.in_memory import World

faults = st.builds(
    Faults,
    loss=st.floats(0, 0.2),
    duplication=st.floats(0, 0.2),
    cut=st.floats(0, 0.01),
    delay_s=st.tuples(st.floats(0.001, 0.05), st.floats(0.05, 1.0)),
)
rules = st.one_of(
    st.fixed_dictionaries(
        {
            "trigger": st.just("immediate"),
            "cooldown": st.none() | st.integers(0, 30),
            "deadline_s": st.none() | st.just(30),
        }
    ),
    st.fixed_dictionaries(
        {
            "trigger": st.just("buffer"),
            "buffer_size": st.integers(1, 4),
            "cooldown": st.none() | st.integers(0, 30),
        }
    ),
    st.fixed_dictionaries(
        {
            "trigger": st.just("rounds"),
            "fraction": st.sampled_from([0.3, 1.0]),
            "cooldown": st.none() | st.integers(0, 30),
        }
    ),
)
kills = st.lists(
    st.tuples(st.floats(1, 120), st.sampled_from(["coordinator", "broker", 0, 1, 2])), max_size=4
)
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), rule=rules, kills=kills)
def test_no_federation_stalls_and_every_update_is_applied_exactly_once(
    faults: Faults, seed: int, rule: dict[str, Any], kills: list[tuple[float, str | int]]
) -> None:
    world = World(devices=6, faults=faults, seed=seed, aggregation=rule)
    for pause_s, victim in kills:
        world.run(pause_s)
        match victim:
            case "coordinator":
                world.restart_coordinator()
            case "broker":
                world.broker.forget_everything()
            case _:
                world.restart_agent(f"device-{victim}")
    assert world.run(4 * 3600, lambda: len(world.trained()) >= 15)
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()


@thorough
@given(seed=st.integers(0, 2**32), rule=rules)
def test_updates_that_are_too_old_by_then_are_refused_with_that_reason(
    seed: int, rule: dict[str, Any]
) -> None:
    world = World(devices=6, seed=seed, aggregation={**rule, "max_staleness": 3})
    assert world.run(4 * 3600, lambda: len(world.trained()) >= 15)
    assert world.come_to_rest()
    disk = world.coordinator_disk
    assert set(disk.applied) | set(disk.refused) == world.trained()
    assert set(disk.applied).isdisjoint(disk.refused)
    assert set(disk.refused.values()) <= {"stale"}


def shares(world: World) -> Counter[str]:
    """How many updates of each device are in versions."""
    return Counter(id.device for id in world.coordinator_disk.applied)


def a_federation_with_a_fast_device(seed: int = 0, **rule: Any) -> World:
    world = World(devices=8, seed=seed, aggregation={"trigger": "immediate", **rule})
    world.training_times = {"device-0": (1.0, 2.0)}
    world.run(3600, lambda: len(world.coordinator_disk.applied) >= 80)
    return world


def test_a_device_that_is_ten_times_as_fast_has_no_greater_say() -> None:
    without = shares(a_federation_with_a_fast_device(cooldown=0))
    assert without["device-0"] > 0.4 * without.total()
    automatic = shares(a_federation_with_a_fast_device())
    assert automatic["device-0"] <= 0.25 * automatic.total(), "at most every fifth version"
    assert min(automatic.values()) > 0


def test_no_device_is_in_versions_that_are_closer_than_its_cooldown() -> None:
    # With this chance versions come so evenly that the cooldown never gives way.
    world = a_federation_with_a_fast_device(seed=4, cooldown=3)
    last: dict[str, int] = {}
    closest = 1000
    for id, version in sorted(world.coordinator_disk.applied.items(), key=lambda item: item[1]):
        closest = min(closest, version - last.get(id.device, -1000))
        last[id.device] = version
    assert closest == 4


def test_a_restart_does_not_end_a_cooldown() -> None:
    world = a_federation_with_a_fast_device(cooldown=5)
    before = len(world.coordinator_disk.versions)
    last = max(v for id, v in world.coordinator_disk.applied.items() if id.device == "device-0")
    world.restart_coordinator()
    world.run(600, lambda: len(world.coordinator_disk.versions) >= before + 12)
    later = sorted(v for id, v in world.coordinator_disk.applied.items() if id.device == "device-0")
    after = next(version for version in later if version > last)
    assert after >= last + 6


def test_devices_that_say_nothing_do_not_stall_those_that_cool_down() -> None:
    """Most are there and never train, so all that do cool down at once."""
    world = World(devices=12, aggregation={"trigger": "immediate", "deadline_s": None})
    world.training_times = {f"device-{n}": (1e9, 1e9) for n in range(3, 12)}
    assert world.run(3 * 3600, lambda: len(world.coordinator_disk.applied) >= 50)
    assert set(shares(world)) == {"device-0", "device-1", "device-2"}
