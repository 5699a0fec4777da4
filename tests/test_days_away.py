"""A device that is away for days comes back to the newest version, and its old update is judged."""

from __future__ import annotations

from typing import Any

import pytest

from tests.in_memory import Agent, World

DAY_S = 86_400.0
AWAY = "device-0"


def a_world(max_staleness: int) -> World:
    """A federation that makes hundreds of versions in three days."""
    return World(
        training_s=(300.0, 900.0), aggregation={"max_staleness": max_staleness}, chunk_bytes=1024
    )


def leave_with_an_update(world: World) -> Agent:
    """Let the device lose its link, and train all the same."""
    agent = world.agents[AWAY]
    assert world.run(DAY_S, lambda: agent.core.work.phase.value == "training")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(world.broker, "waits_s", lambda: 1000 * DAY_S)
        agent.session.cut("out of reach")
    assert world.run(DAY_S, lambda: len(agent.disk.offers) == 1)
    return agent


def come_back(world: World, agent: Agent, *, was_off: bool) -> Agent:
    """The device is there again, after days; what it fetched before is forgotten by this test."""
    before = len(world.coordinator_disk.versions)
    assert not world.run(3 * DAY_S)
    assert len(world.coordinator_disk.versions) > before + 300
    agent.disk.store.clear()
    if was_off:
        world.restart_agent(AWAY)
        return world.agents[AWAY]
    agent.session._connect()
    return agent


def facts(world: World, text: str) -> list[dict[str, Any]]:
    """What the coordinator told of the updates of the device."""
    lines = [line.facts for line in world.coordinator.logs if line.text == text]
    return [line for line in lines if line.get("device") == AWAY]


@pytest.mark.parametrize("was_off", [False, True])
def test_a_device_that_was_away_for_days_fetches_one_model_and_its_update_counts_by_its_staleness(
    was_off: bool,
) -> None:
    world = a_world(max_staleness=10_000)
    agent = leave_with_an_update(world)
    (offer,) = agent.disk.offers.values()
    agent = come_back(world, agent, was_off=was_off)
    current = len(world.coordinator_disk.versions) - 1
    assert world.run(3600, lambda: len(agent.disk.committed) == 2)
    assert {version for version, _ in agent.disk.store} == {current}
    assert world.run(3600, lambda: bool(facts(world, "update accepted")))
    first = facts(world, "update accepted")[0]
    assert first["sequence"] == offer.sequence
    assert first["staleness"] >= 300
    assert world.come_to_rest()
    assert set(world.coordinator_disk.applied) == world.trained()


@pytest.mark.parametrize("was_off", [False, True])
def test_an_update_that_is_too_old_is_refused_with_the_reason_and_the_device_goes_on(
    was_off: bool,
) -> None:
    world = a_world(max_staleness=20)
    agent = leave_with_an_update(world)
    agent = come_back(world, agent, was_off=was_off)
    current = len(world.coordinator_disk.versions) - 1
    assert world.run(3600, lambda: len(agent.disk.committed) == 2)
    assert {version for version, _ in agent.disk.store} == {current}
    (refusal,) = facts(world, "update refused")
    assert (refusal["sequence"], refusal["reason"]) == (0, "stale")
    assert "at most 20 are allowed" in refusal["detail"]
    (told,) = [line for line in agent.logs if line.text == "update refused"]
    assert told.facts["reason"].startswith("stale: missed ")
    assert world.run(3600, lambda: bool(facts(world, "update accepted")))
    assert facts(world, "update accepted")[0]["sequence"] == 1
