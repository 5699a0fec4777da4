"""Both cores with signed messages and sealed updates: all that holds without them holds with them.

As `tests/test_coordinator_device_agent_together.py`, where a network is bad and parties are
killed; the broker is honest here.
"""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.loopback import Faults
from tests.in_memory import World
from tests.test_coordinator_device_agent_together import deaths, faults, kills, triggers

thorough = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def a_world(**settings: object) -> World:
    return World(secured=True, **settings)  # type: ignore[arg-type]


def ends_well(world: World, hours: float = 2.0) -> None:
    assert world.run(hours * 3600, lambda: len(world.trained()) >= 6)
    assert world.come_to_rest()
    disk = world.coordinator_disk
    assert set(disk.applied) == world.trained()
    assert not disk.refused
    for id, believed in disk.believed.items():
        assert believed == world.agent_disks[id.device].made[id.sequence]
    assert world.trust is not None
    assert not world.trust.disbelieved, "no member is ever doubted"


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), trigger=triggers)
def test_every_sealed_update_is_applied_exactly_once_and_both_ends_come_to_rest(
    faults: Faults, seed: int, trigger: str
) -> None:
    ends_well(a_world(faults=faults, seed=seed, aggregation={"trigger": trigger}))


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), kills=kills, trigger=triggers)
def test_killing_any_party_at_any_moment_loses_nothing_that_was_sealed(
    faults: Faults, seed: int, kills: list[tuple[float, str | int]], trigger: str
) -> None:
    world = a_world(faults=faults, seed=seed, aggregation={"trigger": trigger})
    for pause_s, victim in kills:
        world.run(pause_s)
        match victim:
            case "coordinator":
                world.restart_coordinator()
            case "broker":
                world.broker.forget_everything()
            case _:
                world.restart_agent(f"device-{victim}")
    ends_well(world)


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), deaths=deaths, trigger=triggers)
def test_killing_parties_between_any_two_effects_loses_nothing_that_was_sealed(
    faults: Faults, seed: int, deaths: dict[str, frozenset[int]], trigger: str
) -> None:
    world = a_world(faults=faults, seed=seed, aggregation={"trigger": trigger})
    world.deaths = deaths
    ends_well(world, hours=4.0)


@pytest.mark.parametrize("party", ["coordinator", "device-0"])
def test_killing_a_party_after_one_of_its_effects_loses_nothing_that_was_sealed(
    party: str,
) -> None:
    def a_small_one(*after: int) -> World:
        world = a_world(devices=2, aggregation={"trigger": "buffer"})
        world.deaths = {party: frozenset(after)}
        assert world.run(7200, lambda: len(world.trained()) >= 4)
        assert world.come_to_rest()
        assert set(world.coordinator_disk.applied) == world.trained()
        return world

    effects = a_small_one().carried_out[party]
    assert effects > 20
    for after in range(1, effects + 1, 3):
        world = a_small_one(after)
        assert world.carried_out[party] >= after, "it was not killed"


def test_a_coordinator_that_dies_between_opening_and_judging_takes_the_upload_in_again() -> None:
    world = a_world(devices=1, aggregation={"trigger": "immediate"})
    coordinator = world.coordinator
    screened = world.trust.screened  # type: ignore[union-attr]
    opened: list[object] = []

    def screen_and_die(*words: object) -> object:
        event = screened(*words)  # type: ignore[arg-type]
        if not opened:
            coordinator.alive = False  # what it has opened lies in the spool; nobody judges it
        opened.append(words[1])
        return event

    world.trust.screened = screen_and_die  # type: ignore[union-attr, method-assign, assignment]
    assert world.run(600, lambda: not coordinator.alive)
    assert not world.coordinator_disk.entered
    world.restart_coordinator()
    ends_well(world)
    assert opened.count(opened[0]) == 2
