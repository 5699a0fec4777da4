"""A swarm is to a real coordinator what so many agents are: it takes in what they send."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from benchmarks.swarm import Swarm, an_update, connect_all, raise_file_limit
from benchmarks.swarm_device import Work
from benchmarks.swarm_record import quantile
from config.failures import Failure
from config.settings import Transfer
from federation.topics import Topics
from tests.processes import LONG_S, a_broker, a_coordinator

DEVICES = 20
ELEMENTS = 3000  # as the stub worker has them
VERSIONS = 3


@pytest.mark.parametrize("fetches", [True, False], ids=["fetching", "as if fetched"])
def test_twenty_devices_deliver_update_after_update(tmp_path: Path, fetches: bool) -> None:
    transfer = Transfer()
    work = Work.of(an_update(ELEMENTS, "float32"), transfer, fetches=fetches)
    with (
        a_broker("mosquitto", tmp_path / "broker") as broker,
        a_coordinator(
            broker,
            tmp_path / "state",
            stub=True,
            versions=VERSIONS,
            aggregation={"buffer_size": DEVICES, "wait_for": DEVICES, "cooldown": 0},
            training={"codec": "float32"},
        ) as coordinator,
    ):
        swarm = Swarm(broker.host, broker.port)
        connect_all(swarm, DEVICES, work, transfer, Topics("flockwise", "default"))
        end_s = time.monotonic() + LONG_S
        while coordinator.process.poll() is None:
            swarm.turn(0.1)
            assert time.monotonic() < end_s, coordinator.raw[-12:]
        swarm.close()
        assert coordinator.end() == 0
    told = swarm.record.facts()
    assert told["troubles"] == {}
    assert told["counts"]["accepted"] >= DEVICES * (VERSIONS - 1)
    assert len(swarm.record.latencies_s) == told["counts"]["accepted"]
    assert len(coordinator.told("version made")) == VERSIONS
    assert not [line for line in coordinator.lines if line["level"] in ("warning", "error")][1:]


def test_more_files_than_the_machine_allows_are_one_clear_line() -> None:
    with pytest.raises(Failure, match="open files are needed, and this machine allows"):
        raise_file_limit(2**62)


def test_quantiles_are_values_that_were_seen() -> None:
    assert [quantile([1.0, 2.0, 3.0, 4.0], share) for share in (0.5, 0.99, 1.0)] == [3.0, 4.0, 4.0]
    assert quantile([], 0.5) == 0.0
