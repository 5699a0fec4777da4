"""A broker that reads, drops, replays, moves, alters and invents: nothing comes of it but delay.

`tests/hostile_world.py` asserts after every event that nothing is believed that nobody said, no
wrong piece is kept, no earlier version is begun after a later one, and nothing is forgotten that
was not judged; and at the end that what was applied is what devices made, and that the broker has
read no 16 bytes of it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from federation.loopback import Faults
from tests.hostile_broker import THIEF, Malice
from tests.hostile_world import HostileWorld

ENOUGH = 6
HOURS_S = 3600.0
often = st.floats(0, 0.4)
malices = st.builds(
    Malice,
    drop=st.floats(0, 0.3),
    double=st.floats(0, 0.2),
    delay=st.floats(0, 0.3),
    replay=often,
    move=often,
    alter=often,
    invent=often,
    spoil=st.floats(0, 0.2),
    theft=often,
)
triggers = st.sampled_from(["buffer", "rounds", "immediate"])
seeds = st.integers(0, 2**32)
VICTIMS = ["coordinator", "broker", "cut", "new key to seal to", 0, 1, 2]
LOSSES = [*VICTIMS, "new ledger", "new key to sign with", "wipe 0", "wipe 1"]
thorough = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
figures: Counter[str] = Counter()


def events(of: list[str | int]) -> st.SearchStrategy[list[tuple[float, str | int]]]:
    return st.lists(st.tuples(st.floats(1, 120), st.sampled_from(of)), max_size=8)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Thousands of messages are not believed here; a line for each session is enough elsewhere."""
    log = logging.getLogger("federation.signed_session")
    log.disabled = True
    yield
    log.disabled = False


def happen(world: HostileWorld, what: str | int) -> None:
    match what:
        case "coordinator":
            world.restart_coordinator()
        case "broker":
            world.broker.forget_everything()
        case "cut":
            cut_all(world)
        case "new key to seal to":
            world.renew_seal()
        case "new key to sign with":
            world.renew_signer()
        case "new ledger":
            world.found_anew()
        case "wipe 0" | "wipe 1":
            world.wipe(f"device-{what[-1]}")
        case _:
            world.restart_agent(f"device-{what}")


def cut_all(world: HostileWorld) -> None:
    for party in (world.coordinator, *world.agents.values()):
        party.wire.cut("the broker was replaced")


def end_honestly(world: HostileWorld) -> None:
    """An honest broker takes over, with all that is retained: nothing may stay behind of it all."""
    world.broker.honest = True
    made = len(world.trained())
    assert world.run(4 * HOURS_S, lambda: len(world.trained()) >= made + 3), "no progress"
    assert world.come_to_rest(), "no rest"
    world.check()
    figures.update(world.outcomes)
    figures.update(runs=1, updates=len(world.trained()))


def everything_is_applied_once(
    malice: Malice, faults: Faults, seed: int, trigger: str, story: list[tuple[float, str | int]]
) -> None:
    world = HostileWorld(malice, faults=faults, seed=seed, aggregation={"trigger": trigger})
    for pause_s, what in story:
        world.run(pause_s)
        happen(world, what)
    world.run(HOURS_S, lambda: len(world.trained()) >= ENOUGH)
    assert not world.who_stopped()
    end_honestly(world)
    assert set(world.coordinator_disk.applied) == world.trained()
    assert all(id.device == THIEF for id in world.coordinator_disk.refused)


a_bad_network = st.builds(
    Faults,
    loss=st.floats(0, 0.2),
    duplication=st.floats(0, 0.2),
    cut=st.floats(0, 0.02),
    delay_s=st.tuples(st.floats(0.001, 0.05), st.floats(0.05, 2.0)),
)


@thorough
@given(malice=malices, faults=a_bad_network, seed=seeds, trigger=triggers, story=events(VICTIMS))
def test_under_a_hostile_broker_every_update_is_applied_once_and_no_other_ever(
    malice: Malice,
    faults: Faults,
    seed: int,
    trigger: str,
    story: list[tuple[float, str | int]],
) -> None:
    everything_is_applied_once(malice, faults, seed, trigger, story)


def nothing_wrong_is_applied(
    malice: Malice, seed: int, trigger: str, story: list[tuple[float, str | int]]
) -> None:
    rule = {"trigger": trigger}
    world = HostileWorld(malice, seed=seed, take_over=True, aggregation=rule)
    for pause_s, what in story:
        world.run(pause_s)
        # Words of a former ledger or outbox may have ended a role, as a second one would have.
        world.revive()
        happen(world, what)
    world.run(HOURS_S, lambda: len(world.trained()) >= ENOUGH)
    world.broker.honest = True
    cut_all(world)
    world.run(60.0)
    world.revive()
    end_honestly(world)
    made = {id: world.made()[id][0].ledger for id in world.trained()}
    current = world.coordinator_disk
    assert {id for id in made if made[id] == current.ledger} <= set(current.applied)
    for disk in world.ledgers.values():
        # Of a ledger that was lost, its coordinator may have been too, before it went on.
        assert set(disk.applied) <= set(disk.entered) <= set(world.made())


@thorough
@given(malice=malices, seed=seeds, trigger=triggers, story=events(LOSSES))
def test_what_was_said_under_former_ledgers_keys_and_outboxes_does_no_harm(
    malice: Malice, seed: int, trigger: str, story: list[tuple[float, str | int]]
) -> None:
    nothing_wrong_is_applied(malice, seed, trigger, story)


def test_all_of_it_happens_and_all_of_it_is_noticed() -> None:
    """The machinery of these tests is not in vain."""
    malice = Malice(
        drop=0.1,
        double=0.1,
        delay=0.1,
        replay=0.3,
        move=0.3,
        alter=0.3,
        invent=0.3,
        spoil=0.1,
        theft=1.0,
    )
    world = HostileWorld(malice, seed=1)
    # What it does is drawn: long enough that none of it is rare.
    assert world.run(12 * HOURS_S, lambda: len(world.trained()) >= 60)
    end_honestly(world)
    assert set(world.coordinator_disk.applied) == world.trained()
    done = world.broker.done
    for what in (
        *("dropped", "doubled", "delayed", "replayed", "moved", "altered", "spoilt"),
        *("invented chunk", "invented unsigned", "invented by a foreign device"),
        *("invented by another authority", "invented by another federation"),
    ):
        assert done[what] > 5, what
    assert world.outcomes["not believed"] > 100
    assert world.outcomes["chunk not taken"] > 50
    assert world.trust is not None
    reasons = " ".join(world.trust.disbelieved)
    for why in (
        *("is not signed", "has no right to it", "altered, or moved to here", "truncated"),
        *("not of this federation's authority", "is of the federation flockwise/elsewhere"),
    ):
        assert why in reasons, why
    assert any(id.device == THIEF for id in world.coordinator_disk.refused)


@pytest.mark.long
def test_it_holds_over_many_runs() -> None:
    figures.clear()
    many()
    print(dict(figures))
    assert figures["not believed"] > 10_000


@settings(thorough, max_examples=400)
@given(malice=malices, faults=a_bad_network, seed=seeds, trigger=triggers, story=events(LOSSES))
def many(
    malice: Malice,
    faults: Faults,
    seed: int,
    trigger: str,
    story: list[tuple[float, str | int]],
) -> None:
    harmless: list[tuple[float, str | int]] = [one for one in story if one[1] in VICTIMS]
    everything_is_applied_once(malice, faults, seed, trigger, harmless)
    nothing_wrong_is_applied(malice, seed, trigger, story)
