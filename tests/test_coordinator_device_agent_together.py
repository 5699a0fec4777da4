"""Both cores over the loopback twin: whatever the network does, every update counts once."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from device_agent.work import Phase
from federation.loopback import Faults
from tests.in_memory import Agent, World

faults = st.builds(
    Faults,
    loss=st.floats(0, 0.3),
    duplication=st.floats(0, 0.3),
    cut=st.floats(0, 0.02),
    delay_s=st.tuples(st.floats(0.001, 0.05), st.floats(0.05, 2.0)),
)
kills = st.lists(
    st.tuples(st.floats(1, 120), st.sampled_from(["coordinator", "broker", 0, 1, 2])), max_size=8
)
triggers = st.sampled_from(["buffer", "rounds", "immediate"])
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), trigger=triggers)
def test_every_update_is_applied_exactly_once_and_both_ends_come_to_rest(
    faults: Faults, seed: int, trigger: str
) -> None:
    world = World(faults=faults, seed=seed, aggregation={"trigger": trigger})
    assert world.run(2 * 3600, lambda: len(world.trained()) >= 6)
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), kills=kills, trigger=triggers)
def test_killing_any_party_at_any_moment_loses_nothing(
    faults: Faults, seed: int, kills: list[tuple[float, str | int]], trigger: str
) -> None:
    world = World(faults=faults, seed=seed, aggregation={"trigger": trigger})
    for pause_s, victim in kills:
        world.run(pause_s)
        match victim:
            case "coordinator":
                world.restart_coordinator()
            case "broker":
                world.broker.forget_everything()
            case _:
                world.restart_agent(f"device-{victim}")
    assert world.run(2 * 3600, lambda: len(world.trained()) >= 6)
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()


def test_an_agent_that_starts_without_a_link_trains_what_it_has_and_delivers_later() -> None:
    world = World(devices=1, aggregation={"trigger": "immediate"})
    agent, disk = world.agents["device-0"], world.agent_disks["device-0"]
    assert world.run(60, lambda: agent.core.work.phase is Phase.TRAINING)
    agent.kill()
    offline = Agent(world, "device-0", disk, start=False)
    assert world.run(60, lambda: bool(disk.offers))
    assert not world.coordinator_disk.entered
    offline.session.start()
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()


def a_small_federation(seed: int, trigger: str, deaths: dict[str, frozenset[int]]) -> World:
    """Two devices make two updates each, or more, while parties die after these effects."""
    world = World(devices=2, seed=seed, aggregation={"trigger": trigger})
    world.deaths = deaths
    assert world.run(2 * 3600, lambda: len(world.trained()) >= 4), deaths
    assert world.come_to_rest(), deaths
    return world


@pytest.mark.parametrize("trigger", ["buffer", "immediate"])
@pytest.mark.parametrize("party", ["coordinator", "device-0"])
def test_killing_a_party_after_any_one_of_its_effects_loses_nothing(
    party: str, trigger: str
) -> None:
    effects = a_small_federation(0, trigger, {}).carried_out[party]
    assert effects > 20
    for after in range(1, effects + 1):
        world = a_small_federation(0, trigger, {party: frozenset({after})})
        assert world.carried_out[party] >= after, "it was not killed"
        assert set(world.coordinator_disk.applied) == world.trained(), after


deaths = st.fixed_dictionaries(
    {
        name: st.frozensets(st.integers(1, 150), max_size=12)
        for name in ("coordinator", "device-0", "device-1")
    }
)


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), deaths=deaths, trigger=triggers)
def test_killing_parties_between_any_two_effects_loses_nothing_on_a_bad_network_too(
    faults: Faults, seed: int, deaths: dict[str, frozenset[int]], trigger: str
) -> None:
    world = World(faults=faults, seed=seed, aggregation={"trigger": trigger})
    world.deaths = deaths
    assert world.run(4 * 3600, lambda: len(world.trained()) >= 6)
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()
