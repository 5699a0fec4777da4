"""What a device gives for an agent does not get out of hand: gross changes show here.

The figures themselves come from `benchmarks/footprint.py` and are in docs/footprint.md.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.footprint_growth import DEVICES, Sample, grow
from benchmarks.footprint_idle import KINDS, Idle, idle_agents
from benchmarks.footprint_writes import agent_bytes, coordinator_bytes
from benchmarks.gauges import MIB
from tests.processes import a_broker, a_chunk, a_coordinator, an_agent

ELEMENTS = 20_000
VERSIONS, BETWEEN = 200, 100
# Over the versions in between one model a version would be 8 MB.
MOST_GROWTH = 3 * MIB
MOST_BESIDE_FILES = 80_000


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> list[Sample]:
    folder = tmp_path_factory.mktemp("grown")
    with a_broker("mosquitto", folder) as broker, pytest.MonkeyPatch.context() as patch:
        patch.setenv("STUB_ELEMENTS", str(ELEMENTS))
        return grow(broker, folder, VERSIONS, BETWEEN)


@pytest.fixture(scope="module")
def idle(tmp_path_factory: pytest.TempPathFactory) -> list[Idle]:
    folder = tmp_path_factory.mktemp("idle")
    with a_broker("mosquitto", folder) as broker:
        return idle_agents(broker, folder, 1, seconds=3.0, settling_s=1.0)


def ends(samples: list[Sample], role: str) -> tuple[Sample, Sample]:
    first, last = (sample for sample in samples if sample.role == role)
    return first, last


@pytest.mark.parametrize("role", [*DEVICES, "coordinator"])
def test_versions_come_and_go_and_leave_nothing_in_memory(grown: list[Sample], role: str) -> None:
    first, last = ends(grown, role)
    assert last.own - first.own < MOST_GROWTH


@pytest.mark.parametrize("role", [*DEVICES, "coordinator"])
def test_versions_leave_no_file_open(grown: list[Sample], role: str) -> None:
    first, last = ends(grown, role)
    assert last.files <= first.files + 3


def test_what_agents_write_for_a_version_is_its_files_and_little_more(
    grown: list[Sample],
) -> None:
    pairs = [ends(grown, device) for device in DEVICES]
    written = sum(last.written - first.written for first, last in pairs)
    if not written:
        pytest.skip("the state lies in memory here")
    versions = pairs[0][1].versions - pairs[0][0].versions
    # Two of them work at a time, and one update of each may still be under way.
    updates = versions + 2 * len(DEVICES)
    assert written < updates * (agent_bytes(ELEMENTS, "float32") + MOST_BESIDE_FILES)


def test_what_a_coordinator_writes_for_a_version_is_its_files_and_little_more(
    grown: list[Sample],
) -> None:
    first, last = ends(grown, "coordinator")
    written = last.written - first.written
    if not written:
        pytest.skip("the state lies in memory here")
    versions = last.versions - first.versions + 2
    assert written < versions * (coordinator_bytes(ELEMENTS, "float32") + MOST_BESIDE_FILES)


def test_a_ledger_takes_less_than_a_kilobyte_for_a_version(grown: list[Sample]) -> None:
    first, last = ends(grown, "coordinator")
    written_to_it_late = 64 * 4096  # what waits in its log
    assert last.ledger - first.ledger < (last.versions - first.versions) * 1000 + written_to_it_late


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_that_waits_changes_no_file_but_its_status(idle: list[Idle], kind: str) -> None:
    (row,) = (row for row in idle if row.kind == kind)
    assert set(row.changed) <= {"status.json"}


def test_an_agent_of_systemd_that_waits_writes_nothing(idle: list[Idle]) -> None:
    (row,) = (row for row in idle if row.kind == "by systemd")
    assert row.written == 0


@pytest.mark.parametrize("kind", KINDS)
def test_an_agent_that_waits_takes_less_than_60_mb_and_hardly_wakes(
    idle: list[Idle], kind: str
) -> None:
    (row,) = (row for row in idle if row.kind == kind)
    assert row.memory.resident < 60e6
    assert row.wakeups_s < 10


def test_an_agent_that_waits_holds_neither_torch_nor_numpy(tmp_path: Path) -> None:
    chunk = a_chunk(tmp_path / "chunk.npz")
    with (
        a_broker("mosquitto", tmp_path / "broker") as broker,
        a_coordinator(broker, tmp_path / "coordinator", stub=True),
        an_agent(broker, tmp_path / "agent", chunk, "one", stub=True) as agent,
    ):
        agent.wait_for("version announced")
        loaded = Path(f"/proc/{agent.process.pid}/maps").read_text()
    assert "/psutil/" in loaded  # so libraries do show there
    assert "/torch/" not in loaded
    assert "/numpy/" not in loaded


def test_the_bytes_of_a_version_follow_from_the_model() -> None:
    # 100 numbers: 400 bytes fetched, 400 uploaded; the upload, the checkpoint, and its payload.
    assert agent_bytes(100, "float32") == 400 + 400
    assert coordinator_bytes(100, "float32", updates=3, states=1) == 3 * 400 + 3 * 400
    # What int8 rounds away is kept as float32.
    assert agent_bytes(100, "int8", saved=2, momentum=True) > 400 + 100 + 400 + 2 * 800
