"""`flockwise lab sweep` on this machine: real simulations of tiny federations, in processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.wandb_reader import HOUSE, Run, environment, runs_in

# Several processes load torch one after the other, which takes long where others work, too.
pytestmark = pytest.mark.timeout(900)
WAIT_S = 400

GRID = """
name: how far to step
project: birds
method: grid
metric: {name: global/accuracy, goal: maximize}
parameters:
  aggregation.step_size: {values: [0.5, 1.0]}
  training.model: {value: tutorial-cnn}
"""
BAYES = """
method: bayes
metric: {name: global/accuracy, goal: maximize}
parameters:
  training.learning_rate: {distribution: log_uniform_values, min: 1e-3, max: 1}
  aggregation: {parameters: {step_size: {min: 0.1, max: 1.0}}}
  training.model: {value: tutorial-cnn}
"""
TINY = (
    *("--generated", "--examples", "200", "--test-examples", "60", "--devices", "2"),
    *("--versions", "2", "--aggregation-buffer-size", "2"),
)


class Sweep:
    """A folder with a definition, and the command on it."""

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self.output = folder, folder / "out"
        self.definition = folder / "definition.yaml"
        self.definition.write_text(text)

    def start(self, *argv: str) -> subprocess.Popen[str]:
        words = ("lab", "sweep", str(self.definition), *TINY, "--output", str(self.output), *argv)
        return subprocess.Popen(
            [sys.executable, "-m", "flockwise", *words],
            cwd=HOUSE,
            env=environment(self.folder),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *argv: str, code: int = 0) -> tuple[str, str]:
        process = self.start(*argv)
        out, err = process.communicate(timeout=WAIT_S)
        assert process.returncode == code, err
        return out, err

    @property
    def rows(self) -> list[dict[str, Any]]:
        path = self.output / "sweep.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """A grid of two points, made with W&B offline; then again with a second seed, as JSON."""
    sweep = Sweep(tmp_path_factory.mktemp("sweep"), GRID)
    out, err = sweep.run(
        *("--jobs", "1", "--reporting-wandb", "offline", "--reporting-run-name", "try")
    )
    assert "2 points, 2 runs, GENERATED IMAGES, NOT REAL" in err
    assert "ON GENERATED IMAGES" in out
    (sweep.folder / "first.txt").write_text(err)
    out, err = sweep.run("--jobs", "2", "--seeds", "2", "--json")
    (sweep.folder / "second.txt").write_text(err)
    (sweep.folder / "second.json").write_text(out)
    return sweep


@pytest.fixture(scope="module")
def wandb_runs(swept: Sweep) -> list[Run]:
    folders = [swept.output / "runs" / row["key"] for row in swept.rows[:2]]
    return [run for folder in folders for run in runs_in(folder)]


def test_every_point_is_made_once_in_order(swept: Sweep) -> None:
    steps = [row["parameters"]["aggregation.step_size"] for row in swept.rows]
    assert steps[:2] == [0.5, 1.0]
    assert sorted(steps) == [0.5, 0.5, 1.0, 1.0]
    assert [row["seed"] for row in swept.rows] == [0, 0, 1, 1]
    assert len({row["key"] for row in swept.rows}) == 4


def test_what_is_there_is_not_made_again(swept: Sweep) -> None:
    told = (swept.folder / "second.txt").read_text()
    assert "2 points, 4 runs, GENERATED IMAGES, NOT REAL; 2 done before" in told
    assert sum("seed 1:" in line for line in told.splitlines()) == 2
    assert "seed 0:" not in told


def test_a_row_has_the_figures_of_its_run(swept: Sweep) -> None:
    for row in swept.rows:
        assert len(row["history"]) == row["versions"] == 2
        assert row["best"] == max(row["history"])
        assert row["final"] == row["history"][-1] == row["figures"]["global/accuracy"]
        assert row["ending"] == "versions"
        assert row["generated"]
        assert row["virtual_s"] > 0
        assert len(row["model"]) == 32


def test_points_are_shown_as_json_with_all_their_seeds(swept: Sweep) -> None:
    found = json.loads((swept.folder / "second.json").read_text())
    assert [cell["seeds"] for cell in found] == [[0, 1], [0, 1]]
    assert found[0]["best"] >= found[1]["best"]


def test_the_reports_of_each_run_are_kept(swept: Sweep) -> None:
    for row in swept.rows:
        reports = swept.output / "runs" / row["key"] / "reports.jsonl"
        told = [json.loads(line) for line in reports.read_text().splitlines()]
        tests = [one["accuracy"] for one in told if one["kind"] == "evaluation"]
        assert tests == row["history"]


def test_each_run_can_be_simulated_again_alone_with_the_same_model(swept: Sweep) -> None:
    row = swept.rows[1]
    settings = swept.output / "runs" / row["key"] / "settings.toml"
    words = ("lab", "simulate", "--config", str(settings), "--reporting-wandb", "off", "--json")
    done = subprocess.run(
        [sys.executable, "-m", "flockwise", *words],
        cwd=HOUSE,
        env=environment(swept.folder),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=True,
    )
    assert json.loads(done.stdout)["model"] == row["model"]


def test_each_run_is_one_of_w_and_b_in_the_group_of_the_sweep(wandb_runs: list[Run]) -> None:
    told = [
        [run.described[name] for name in ("project", "run_group", "job_type", "display_name")]
        for run in wandb_runs
    ]
    assert told == [
        ["birds", "how far to step", "sweep", "try step_size=0.5 seed=0"],
        ["birds", "how far to step", "sweep", "try step_size=1 seed=0"],
    ]
    assert len({run.described["run_id"] for run in wandb_runs}) == 2


def test_a_run_of_w_and_b_has_all_its_settings(wandb_runs: list[Run]) -> None:
    configs = [run.described["config"]["update"] for run in wandb_runs]
    assert [config["aggregation"]["step_size"] for config in configs] == [0.5, 1]
    assert {config["training"]["model"] for config in configs} == {"tutorial-cnn"}
    assert {config["devices"] for config in configs} == {2}


def test_a_run_of_w_and_b_has_the_metric_over_virtual_time(
    wandb_runs: list[Run], swept: Sweep
) -> None:
    for run, row in zip(wandb_runs, swept.rows, strict=False):
        assert run.logged("global/accuracy") == row["history"]
        times = run.logged("time_s")
        assert times == sorted(times)
        assert times[-1] <= row["virtual_s"]
        assert run.logged("predictions.nrows"), "the test images are at hand"


# What comes between


def test_an_interrupted_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    text = GRID.replace("[0.5, 1.0]", "[0.25, 0.5, 1.0]")
    sweep = Sweep(tmp_path / "sweep", text)
    process = sweep.start("--jobs", "1")
    try:
        deadline_s = time.monotonic() + WAIT_S
        while not (sweep.output / "sweep.jsonl").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does it
        out, err = process.communicate(timeout=WAIT_S)
    finally:
        process.kill()
    before = sweep.rows
    if process.returncode == 0:
        pytest.skip("it was over before it could be interrupted")
    assert process.returncode == 130, err
    assert f"interrupted: {len(before)} of 3 runs are done; the same command goes on" in err
    assert "Traceback" not in err
    assert "aggregation.step_size" in out, "what is done is shown"
    _, err = sweep.run("--jobs", "1")
    assert f"{len(before)} done before" in err
    steps = [row["parameters"]["aggregation.step_size"] for row in sweep.rows]
    assert steps == [0.25, 0.5, 1.0]
    assert sweep.rows[: len(before)] == before


def test_no_run_begins_once_one_is_good_enough(tmp_path: Path) -> None:
    text = GRID.replace("goal: maximize", "goal: maximize, target: 0.0")
    sweep = Sweep(tmp_path / "sweep", text)
    _, err = sweep.run("--jobs", "1")
    assert len(sweep.rows) == 1
    assert "a run has reached the target of the metric: 1 not made" in err


def test_random_draws_are_those_of_the_seed_whatever_the_processes(tmp_path: Path) -> None:
    text = GRID.replace("grid", "random").replace(
        "{values: [0.5, 1.0]}", "{min: 0.1, max: 1.0}\n  training.epochs: {values: [0.5, 1]}"
    )
    made = []
    for name, jobs in (("one", "1"), ("two", "2")):
        sweep = Sweep(tmp_path / name, text)
        sweep.run("--jobs", jobs, "--count", "2", "--seed", "3")
        made.append(sorted((row["key"], row["best"], row["model"]) for row in sweep.rows))
    assert made[0] == made[1]
    assert len(made[0]) == 2


def test_a_run_that_fails_is_told_and_tried_again_and_the_others_go_on(tmp_path: Path) -> None:
    text = GRID.replace(
        "aggregation.step_size: {values: [0.5, 1.0]}", "devices: {values: [300, 2]}"
    )
    sweep = Sweep(tmp_path / "sweep", text)
    for count in (1, 2):
        out, err = sweep.run("--jobs", "1", code=1)
        failed = [row for row in sweep.rows if row["problem"]]
        assert [row["parameters"]["devices"] for row in failed] == [300] * count
        assert len(sweep.rows) == 1 + count
        assert f"devices=300 seed 0: FAILED: {failed[0]['problem']}" in err
        assert "devices=300 seed 0: FAILED" in out
    assert "1 done before" in err


def test_faults_are_told_before_anything_runs(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path / "sweep", GRID.replace("step_size", "stepsize"))
    _, err = sweep.run(code=78)
    (line,) = err.splitlines()
    assert line.endswith(
        "unknown setting aggregation.stepsize; did you mean aggregation.step_size?"
    )
    assert not sweep.output.exists()


def test_the_run_of_w_and_b_agent_has_what_it_chose_and_what_came_of_it(tmp_path: Path) -> None:
    definition = tmp_path / "definition.yaml"
    definition.write_text(BAYES)
    output = tmp_path / "out"
    words = (
        *(str(definition), *TINY, "--engine", "inline"),
        *("--reporting-wandb", "online", "--output", str(output)),
    )
    done = subprocess.run(
        [sys.executable, "-m", "tests.wandb_agent_child", str(tmp_path), *words],
        cwd=HOUSE,
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (row,) = [json.loads(line) for line in (output / "sweep.jsonl").read_text().splitlines()]
    (run,) = runs_in(output)
    assert run.described["run_id"] == "run-of-the-agent"
    assert run.described["sweep_id"] == "abc123"
    assert run.described["config"]["update"]["aggregation"] == {"step_size": 0.5}
    assert row["parameters"]["aggregation.step_size"] == 0.5
    told = run.records["config"][0]["update"]
    assert (told["devices"], told["training"]["learning_rate"]) == (2, 0.1)
    assert run.logged("global/accuracy") == row["history"]
    assert run.logged("virtual_s") == [row["virtual_s"]]
    assert run.records["exit"][0]["exit_code"] == 0
