"""A gateway whose disk is full: it says so, puts devices off, and goes on by itself."""

from __future__ import annotations

import random
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from tests.processes import Role, a_broker, a_coordinator, an_agent, command
from tests.small_disk import a_small_disk
from tests.stub_worker import a_stub_chunk, known_delta

UPDATES = 12
DEVICES = ("one", "two")
EXACT_SUM = {
    "combine": "mean",
    "cooldown": 0,
    "reanchor": False,
    "step_size": 1.0,
    "staleness": "constant",
    "max_staleness": 10_000,
}


def a_federation(broker: Any, state: Path, tmp_path: Path) -> tuple[Role, list[Role]]:
    coordinator = a_coordinator(
        broker,
        state,
        stub=True,
        strategy="fedasync",
        aggregation=EXACT_SUM,
        training={"codec": "float32"},
        keep_versions=100,
    )
    agents = [
        an_agent(
            broker,
            tmp_path / device,
            a_stub_chunk(tmp_path / f"{device}.json", UPDATES, train_s=0.1),
            device,
            stub=True,
        )
        for device in DEVICES
    ]
    return coordinator, agents


def model(state: Path, version: int) -> Any:
    return load_file(state / "versions" / f"{version:06}.safetensors")["w"]


def test_a_full_gateway_puts_devices_off_and_goes_on_when_there_is_room(tmp_path: Path) -> None:
    with (
        a_broker("auto", tmp_path / "broker") as broker,
        a_small_disk(tmp_path / "disk", 8 * 1024) as disk,
    ):
        coordinator, (one, two) = a_federation(broker, disk.path / "state", tmp_path)
        with coordinator, one, two:
            coordinator.wait_for("version made", 4)
            disk.fill()
            full = coordinator.wait_for("storage full: updates are put off; make room on the disk")
            assert full["level"] == "error"
            put_off = one.wait_for("update put off")
            assert put_off["reason"] == "the storage of the coordinator is full"
            assert len(coordinator.told("version made")) < UPDATES * len(DEVICES)
            disk.free()
            coordinator.wait_for("storage has room again")
            _end_well(coordinator, one, two)
        _check(disk.path / "state")


def test_a_disk_that_is_full_at_any_moment_costs_no_update(tmp_path: Path) -> None:
    chance = random.Random(1)
    with (
        a_broker("auto", tmp_path / "broker") as broker,
        a_small_disk(tmp_path / "disk", 8 * 1024) as disk,
    ):
        coordinator, (one, two) = a_federation(broker, disk.path / "state", tmp_path)
        with coordinator, one, two:
            coordinator.wait_for("version made")
            for _ in range(12):
                disk.fill(chance.choice([0, 4, 8, 12, 16, 24, 40]) * 1024)
                time.sleep(chance.uniform(0.1, 1.0))
                disk.free()
                time.sleep(chance.uniform(0.0, 0.3))
            _end_well(coordinator, one, two)
        _check(disk.path / "state")


def _end_well(coordinator: Role, *agents: Role) -> None:
    coordinator.wait_for("version made", UPDATES * len(DEVICES))
    assert [role.stop() for role in (*agents, coordinator)] == [0, 0, 0]
    assert not [line for line in coordinator.raw if "Traceback" in line]


def _check(state: Path) -> None:
    expected = np.zeros_like(known_delta("one", 0))
    for device in DEVICES:
        for sequence in range(UPDATES):
            expected += known_delta(device, sequence)
    newest = UPDATES * len(DEVICES)
    assert (model(state, newest) == expected).all()
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        (accepted,) = ledger.execute(
            "SELECT count(*) FROM updates WHERE refusal IS NULL"
        ).fetchone()
    assert accepted == newest
    replayed = command("coordinator", "replay", "--state-dir", str(state), "--json")
    assert replayed.returncode == 0, replayed.stderr
