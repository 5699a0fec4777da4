"""A real agent that is interrupted in the middle of an epoch: it pauses or ends, and goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from federation.status_board import read_status
from tests.processes import (
    Role,
    RunningBroker,
    a_broker,
    a_chunk,
    a_coordinator,
    an_agent,
    wait_until,
)
from tests.small_disk import SmallDisk, a_small_disk

MIB = 2**20
SLOW = {"slowdown": 25, "checkpoint_s": 3600, "log_level": "debug"}
RULE = {"min_free_disk_mib": 32}


def _has_begun(agent: Role) -> bool:
    return any(done > 0 for done in _done(agent))


def _done(agent: Role) -> list[float]:
    """The shares of its training that it has told of, as they came."""
    return [p["done"] for p in agent.told("progress") if p["phase"] == "training"]


@contextmanager
def _federation(tmp_path: Path) -> Iterator[tuple[RunningBroker, Role, SmallDisk, Path]]:
    """A broker, a coordinator that makes a version of each update, a small disk, and a chunk."""
    chunk = a_chunk(tmp_path / "c.npz", examples=400)
    plan = {"model": "tutorial-cnn", "epochs": 8}
    with (
        a_broker("auto", tmp_path / "broker") as broker,
        a_small_disk(tmp_path / "disk", 64 * 1024) as disk,
        a_coordinator(
            broker, tmp_path / "c", training=plan, aggregation={"buffer_size": 1}
        ) as coordinator,
    ):
        yield broker, coordinator, disk, chunk


def test_a_training_pauses_in_the_middle_of_an_epoch_and_goes_on_where_it_was(
    tmp_path: Path,
) -> None:
    with _federation(tmp_path) as (broker, coordinator, disk, chunk):
        state = disk.path / "state"
        with an_agent(broker, state, chunk, "one", eligibility=RULE, **SLOW) as agent:
            wait_until(lambda: _has_begun(agent))
            disk.fill(leave_bytes=20 * MIB)
            paused = agent.wait_for("training paused")
            assert paused["reason"].startswith("little room on disk")
            assert (state / "model" / "training").exists(), "it was saved"
            told = coordinator.wait_for("device paused")
            assert (told["device"], told["reason"]) == ("one", "little room on disk")
            wait_until(lambda: "little room" in str((read_status(state) or {}).get("may_train")))
            assert not agent.told("update in outbox")
            before_pause = len(_done(agent))
            disk.free()
            agent.wait_for("update in outbox")
            coordinator.wait_for("device goes on")
            coordinator.wait_for("version made")
            assert _done(agent)[before_pause] > 0, "it did not begin anew"
            assert agent.stop() == 0


def test_a_training_goes_on_though_a_newer_version_is_announced_before_the_machine_is_fit(
    tmp_path: Path,
) -> None:
    with _federation(tmp_path) as (broker, _, disk, chunk):
        state = disk.path / "state"
        with an_agent(broker, state, chunk, "one", **SLOW) as agent:
            wait_until(lambda: _has_begun(agent))
            assert agent.stop() == 0
        assert (state / "model" / "training").exists(), "it was saved"
        with an_agent(broker, tmp_path / "two", chunk, "two") as other:
            other.wait_for("update accepted")
        disk.fill(leave_bytes=20 * MIB)
        with an_agent(broker, state, chunk, "one", eligibility=RULE, **SLOW) as agent:
            agent.wait_for("version announced")
            disk.free()
            agent.wait_for("update in outbox")
            assert _done(agent)[0] > 0, "it did not begin anew"
            assert agent.told("update in outbox")[0]["version"] == 0
            assert agent.stop() == 0
