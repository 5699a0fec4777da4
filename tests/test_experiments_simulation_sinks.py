"""Where the rows of a simulation go: the file, W&B and TensorBoard, all with virtual seconds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from config.simulation import SimulationSettings
from coordinator.reporting import rows_in
from experiments.simulation.sinks import REPORTS, config_of, sources_of, telling
from learning.generated import generated_images
from tests.wandb_reader import HOUSE, Run, environment, runs_in

ROWS: list[dict[str, Any]] = [
    {"kind": "refusal", "time_s": 3.5, "device": "one", "reason": "stale"},
    {"kind": "evaluation", "time_s": 90.25, "version": 1, "accuracy": 0.5},
]


class Listener:
    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.closed = False

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.closed = True


def test_rows_keep_their_virtual_time_in_the_file_and_elsewhere(tmp_path: Path) -> None:
    listener = Listener()
    with telling(SimulationSettings(), tmp_path, sinks=(listener,)) as tell:
        for row in ROWS:
            tell(row)
        assert not listener.closed
    assert list(rows_in(tmp_path / REPORTS)) == listener.rows == ROWS
    assert listener.closed


def test_a_simulation_begins_its_file_anew(tmp_path: Path) -> None:
    for rows in (ROWS, ROWS[:1]):
        with telling(SimulationSettings(), tmp_path) as tell:
            for row in rows:
                tell(row)
    assert list(rows_in(tmp_path / REPORTS)) == ROWS[:1]


def test_without_a_directory_the_rows_go_to_the_sinks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    listener = Listener()
    with telling(SimulationSettings(), None, sinks=(listener,)) as tell:
        tell(ROWS[0])
    assert listener.rows == ROWS[:1]
    assert not list(tmp_path.iterdir())


def test_sinks_are_closed_when_a_simulation_fails(tmp_path: Path) -> None:
    listener = Listener()
    with (
        pytest.raises(RuntimeError),
        telling(SimulationSettings(), tmp_path, sinks=(listener,)),
    ):
        raise RuntimeError
    assert listener.closed


def test_the_test_images_are_looked_up_in_memory() -> None:
    images = generated_images(train=10, test=20, seed=0)
    found = sources_of(images).images([3, 17])
    assert found is not None
    assert np.array_equal(found, images.test_images[[3, 17]])
    assert sources_of(images).images([3, 20]) is None
    assert sources_of(None).images([3]) is None


def test_the_configuration_is_what_decides_the_simulation() -> None:
    config = config_of(SimulationSettings(devices=7, output=Path("out")))
    assert config["devices"] == 7
    assert config["aggregation"]["buffer_size"] == 10
    assert not config.keys() & {"output", "reporting", "print_json", "log_level"}
    assert json.loads(json.dumps(config)) == config


# The whole command


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("simulation")
    words = (
        *("--generated", "--examples", "200", "--test-examples", "60", "--devices", "3"),
        *("--versions", "3", "--aggregation-buffer-size", "2", "--engine", "inline"),
        *("--training-model", "tutorial-cnn", "--output", str(folder / "out")),
        *("--reporting-wandb", "offline", "--reporting-group", "first tries"),
        *("--reporting-run-name", "small one", "--reporting-tables-every", "2"),
        *("--reporting-tensorboard", str(folder / "board")),
    )
    subprocess.run(
        [sys.executable, "-m", "flockwise", "lab", "simulate", *words],
        cwd=HOUSE,
        env=environment(folder),
        timeout=250,
        check=True,
    )
    return folder


@pytest.fixture(scope="module")
def rows(simulated: Path) -> list[dict[str, Any]]:
    return list(rows_in(simulated / "out" / REPORTS))


@pytest.fixture(scope="module")
def run(simulated: Path) -> Run:
    (only,) = runs_in(simulated / "out")
    return only


def test_rows_tell_what_those_of_a_federation_tell(rows: list[dict[str, Any]]) -> None:
    tests = [row for row in rows if row["kind"] == "evaluation"]
    made = [row for row in rows if row["kind"] == "version"]
    updates = [row for row in rows if row["kind"] == "update"]
    assert [row["version"] for row in made] == [1, 2, 3]
    assert made[-1]["bytes_up"] == sum(row["bytes"] for row in updates)
    assert 1 <= made[-1]["on_device"]["devices"] <= 3
    assert len(tests[-1]["recall"]) == len(tests[-1]["classes"]) == 10
    assert sum(map(sum, tests[-1]["confusion"])) == 60
    assert len(tests[-1]["samples"]["index"]) == 32


def test_a_simulation_is_a_run_of_w_and_b(run: Run, rows: list[dict[str, Any]]) -> None:
    told = [run.described[name] for name in ("run_group", "display_name", "job_type", "project")]
    assert told == ["first tries", "small one", "simulation", "flockwise"]
    assert run.described["config"]["update"]["devices"] == 3
    tests = [row for row in rows if row["kind"] == "evaluation"]
    assert run.logged("global/accuracy") == [row["accuracy"] for row in tests]
    times = [item["time_s"] for item in run.history if "global/accuracy" in item]
    assert times == [row["time_s"] for row in tests]


def test_predictions_are_shown_with_their_images(run: Run) -> None:
    assert run.logged("predictions.nrows") == [32, 32]
    assert run.table("predictions")["columns"][0] == "image"


def test_the_summary_has_what_devices_found(simulated: Path) -> None:
    summary = json.loads((simulated / "out" / "summary.json").read_text())
    assert 0 <= summary["on_device"]["accuracy_worst_decile"] <= 1
    assert len(summary["recall"]) == 10


def test_tensorboard_has_the_same_curves(simulated: Path, rows: list[dict[str, Any]]) -> None:
    events = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    board = events.EventAccumulator(str(simulated / "board" / "small_one"))
    board.Reload()
    shown = [(event.step, event.value) for event in board.Scalars("global/accuracy")]
    tests = [row for row in rows if row["kind"] == "evaluation"]
    assert shown == [(row["version"], pytest.approx(row["accuracy"])) for row in tests]
