"""Every party killed, at any moment, over bad links: nothing is lost and nothing counts twice.

Real processes and a real broker. These are short runs; `python -m tests.fault_harness` makes the
long ones, of which each has its seed.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from broker.start import choose
from config.failures import Failure
from config.settings import AgentSettings
from tests.fault_federation import Federation
from tests.fault_plan import BROKER, BUFFERED, COORDINATOR, IMMEDIATE, Plan, Strike, schedule
from tests.fault_runs import QUICK_LINK, QUICK_TRANSFER, to_rest, with_kills, without_coordinator
from tests.fault_verdict import check, who_waits

pytestmark = pytest.mark.timeout(300)  # what stands still is given up after 60 s, and told of
QUICK: dict[str, Any] = {"link": QUICK_LINK, "transfer": QUICK_TRANSFER}
SMALL_BUFFER = {
    **BUFFERED,
    "aggregation": {**BUFFERED["aggregation"], "buffer_size": 2, "deadline_s": 1.0},
}
rules = pytest.mark.parametrize("rule", [IMMEDIATE, SMALL_BUFFER], ids=["immediate", "buffer"])


@pytest.fixture(scope="module", autouse=True)
def _a_broker_can_be_had() -> None:
    try:
        choose("auto")
    except Failure as failure:
        pytest.skip(str(failure))


def together(share: float, *names: str) -> Strike:
    """All of these at the same moment, each back after a moment of its own."""
    return Strike(share, 0.2, tuple((name, 0.1 + 0.2 * n) for n, name in enumerate(names)))


def test_whoever_is_killed_every_update_is_in_the_model_once(tmp_path: Path) -> None:
    plan = Plan(5, 8, seed=11, rule=IMMEDIATE, train_s=0.1, **QUICK)
    done = with_kills(plan, schedule(11, plan.devices, 12, 0, 0.6), tmp_path)
    assert done["versions"] == 40
    assert sum(done["kills"].values()) == 12


def test_a_buffer_that_fills_is_kept_whoever_is_killed(tmp_path: Path) -> None:
    plan = Plan(4, 6, seed=12, rule=SMALL_BUFFER, train_s=0.1, **QUICK)
    done = with_kills(plan, schedule(12, plan.devices, 6, 0, 0.6), tmp_path)
    assert 24 / 2 <= done["versions"] < 24
    assert sum(done["kills"].values()) == 6


@rules
def test_nothing_is_lost_when_several_fall_at_the_same_moment(
    rule: dict[str, Any], tmp_path: Path
) -> None:
    plan = Plan(3, 4, seed=13, rule=rule, bad_links=False, **QUICK)
    first, second, _ = plan.devices
    strikes = [
        together(0.1, first, second),
        together(0.3, COORDINATOR, first),
        together(0.5, BROKER, COORDINATOR),
        together(0.7, BROKER, COORDINATOR, *plan.devices),
    ]
    done = with_kills(plan, strikes, tmp_path)
    assert done["kills"] == {"agents": 6, "coordinator": 3, "broker": 2}


def test_what_was_made_while_the_coordinator_was_away_is_delivered_afterwards(
    tmp_path: Path,
) -> None:
    alone = {"train_alone_after_s": 0.5}
    plan = Plan(
        3, 8, seed=14, rule=IMMEDIATE, train_s=0.2, bad_links=False, agent_settings=alone, **QUICK
    )
    done = without_coordinator(plan, away_s=6.0, directory=tmp_path)
    assert done["updates"] == 24
    bound = AgentSettings.model_fields["outbox_limit"].default
    assert all(most == bound for most in done["in_outboxes"].values())


ALTERATIONS: dict[str, Callable[[Path], None]] = {
    "a contribution is lost": lambda state: alter(state, "DELETE FROM contributions WHERE entry=2"),
    "an update is lost": lambda state: alter(state, "DELETE FROM updates WHERE entry = 3"),
    "an upload is altered": lambda state: flip(next((state / "spool").glob("agent-00*"))),
    "a model is altered": lambda state: flip(state / "versions" / "000004.safetensors"),
    "an older model is altered": lambda state: flip(state / "versions" / "000002.safetensors"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A small federation that has come to rest, with all that it has on disk."""
    plan = Plan(2, 2, seed=15, rule=IMMEDIATE, bad_links=False, **QUICK)
    with Federation(plan, tmp_path_factory.mktemp("finished")) as federation:
        to_rest(federation)
        federation.stop()
    return federation


@pytest.mark.parametrize("alteration", ALTERATIONS)
def test_the_verdict_notices_when(alteration: str, finished: Federation) -> None:
    check(finished)
    kept = {path: path.read_bytes() for path in finished.state.rglob("*") if path.is_file()}
    try:
        ALTERATIONS[alteration](finished.state)
        with pytest.raises(AssertionError):
            check(finished)
    finally:
        for path in finished.state.rglob("*"):
            if path.is_file() and path not in kept:
                path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)


def test_the_story_of_who_waits_names_devices_and_the_ledger(finished: Federation) -> None:
    finished.parties["agent-01"].alive = False
    story = who_waits(finished)
    assert "ledger: version 4, in the buffer []" in story
    assert "agent-01: down, made 2 of 2, judged 2, waiting []" in story
    assert "agent-00" not in story.split("coordinator:")[0]


def test_a_seed_gives_the_same_kills_again_and_as_many_as_were_asked_for() -> None:
    agents = tuple(f"agent-{n:02}" for n in range(20))
    strikes = schedule(1, agents, 60, 1, 3.0)
    assert strikes == schedule(1, agents, 60, 1, 3.0) != schedule(2, agents, 60, 1, 3.0)
    kills = Counter(name for strike in strikes for name in strike.names)
    assert sum(kills.values()) == 60 + 22
    assert kills[COORDINATOR] == kills[BROKER] == 11
    assert [strike.share for strike in strikes] == sorted(strike.share for strike in strikes)
    assert any(len(strike.names) in (2, 3) for strike in strikes)


def alter(state: Path, statement: str) -> None:
    with closing(sqlite3.connect(state / "ledger.sqlite", isolation_level=None)) as database:
        assert database.execute(statement).rowcount == 1


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
