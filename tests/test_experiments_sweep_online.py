"""A sweep that W&B leads: what it is told, what it is asked, and that runs are as it says."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from experiments.sweep.command import main
from experiments.sweep.online import Where, point_of, where_of
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

BAYES = """
program: train.py
name: how far to step
project: birds
method: bayes
metric: {name: global/accuracy, goal: maximize}
parameters:
  training.learning_rate: {distribution: log_uniform_values, min: 1e-3, max: 1}
  aggregation: {parameters: {step_size: {min: 0.1, max: 1.0}}}
  training.model: {value: tutorial-cnn}
"""
TINY = (
    *("--generated", "--examples", "200", "--test-examples", "60", "--devices", "2"),
    *("--versions", "2", "--aggregation-buffer-size", "2", "--engine", "inline"),
)


class FakeConfig(dict[str, Any]):
    """What W&B has said of a run stays as it is."""

    def update(self, more: dict[str, Any]) -> None:  # type: ignore[override]
        assert not self.keys() & more.keys(), "the sweep decides these"
        super().update(more)


class FakeRun:
    """A run of a sweep."""

    def __init__(self, id: str, config: dict[str, Any], asked: dict[str, Any]) -> None:
        self.id, self.config, self.asked = id, FakeConfig(config), asked
        self.logged: list[dict[str, Any]] = []
        self.ended: int | None = None
        self.step = 0

    def define_metric(self, *_: Any, **__: Any) -> None:
        pass

    def log(self, row: dict[str, Any], **_: Any) -> None:
        assert self.ended is None
        self.logged.append(row)

    def finish(self, exit_code: int = 0) -> None:
        self.ended = exit_code

    def values(self, name: str) -> list[Any]:
        return [row[name] for row in self.logged if name in row]


class FakeWandb:
    """The agent of W&B: asks the function for run after run, each in a thread of its own."""

    Settings = SimpleNamespace
    Histogram = staticmethod(lambda np_histogram: np_histogram)
    Table = staticmethod(lambda columns, data: data)
    Image = staticmethod(lambda pixels: pixels.shape)
    plot_table = staticmethod(lambda **told: told)

    def __init__(self, points: list[dict[str, Any]]) -> None:
        self.points = points
        self.sweeps: list[tuple[dict[str, Any], str | None, str]] = []
        self.agents: list[dict[str, Any]] = []
        self.runs: list[FakeRun] = []
        self.next: dict[str, Any] = {}
        self.failing: Exception | None = None

    def sweep(self, told: dict[str, Any], entity: str | None, project: str) -> str:
        if self.failing is not None:
            raise self.failing
        print("Create sweep with ID: abc123")
        self.sweeps.append((told, entity, project))
        return "abc123"

    def agent(self, sweep_id: str, function: Callable[[], None], **told: Any) -> None:
        self.agents.append({"sweep": sweep_id, **told})
        for point in self.points[: told["count"]]:
            self.next = point
            thread = threading.Thread(target=function)
            thread.start()
            thread.join()

    def init(self, **asked: Any) -> FakeRun:
        self.runs.append(FakeRun(f"run-{len(self.runs)}", self.next, asked))
        return self.runs[-1]


def point(rate: float, step: float) -> dict[str, Any]:
    """As W&B gives it, with what was nested still so."""
    return {
        "training.learning_rate": rate,
        "aggregation": {"step_size": step},
        "training.model": "tutorial-cnn",
    }


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeWandb:
    fake = FakeWandb([point(0.1, 1.0), point(0.01, 0.5)])
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    return fake


def sweep(tmp_path: Path, *argv: str, text: str = BAYES) -> int:
    path = tmp_path / "definition.yaml"
    path.write_text(text)
    output = ("--output", str(tmp_path / "out"))
    return main([str(path), *TINY, "--reporting-wandb", "auto", *output, *argv])


def rows(tmp_path: Path) -> list[dict[str, Any]]:
    lines = (tmp_path / "out" / "sweep.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_w_and_b_leads_from_the_definition_to_the_figures(
    tmp_path: Path, wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sweep(tmp_path, "--json") == ExitCode.OK

    ((told, entity, project),) = wandb.sweeps
    assert (entity, project) == (None, "birds")
    assert told["method"] == "bayes"
    assert told["parameters"]["training.learning_rate"]["min"] == 0.001
    assert "program" not in told
    (agent,) = wandb.agents
    assert agent == {"sweep": "abc123", "entity": None, "project": "birds", "count": None}

    made = rows(tmp_path)
    assert [row["parameters"] for row in made] == [
        {
            "aggregation.step_size": step,
            "training.learning_rate": rate,
            "training.model": "tutorial-cnn",
        }
        for rate, step in ((0.1, 1.0), (0.01, 0.5))
    ]
    for run, row in zip(wandb.runs, made, strict=True):
        assert run.ended == 0
        assert run.values("global/accuracy") == row["history"]
        assert run.values("virtual_s") == [row["virtual_s"]]
        assert run.config["devices"] == 2
        assert run.config["training"]["model"] == "tutorial-cnn"
        assert run.asked["job_type"] == "sweep"
    told_on_stdout = json.loads(capsys.readouterr().out)
    assert len(told_on_stdout) == 2, "what W&B prints is not among it"


def test_the_next_call_goes_on_with_the_same_sweep(tmp_path: Path, wandb: FakeWandb) -> None:
    sweep(tmp_path, "--count", "1")
    sweep(tmp_path, "--count", "1")
    assert len(wandb.sweeps) == 1
    assert [agent["sweep"] for agent in wandb.agents] == ["abc123"] * 2
    assert [agent["count"] for agent in wandb.agents] == [1, 1]


def test_a_sweep_of_others_is_joined(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.points = []
    sweep(tmp_path, "--join", "flock/geese/xyz789")
    assert not wandb.sweeps
    (agent,) = wandb.agents
    assert agent == {"sweep": "xyz789", "entity": "flock", "project": "geese", "count": None}


def test_a_point_that_no_simulation_takes_ends_its_run_and_no_more(
    tmp_path: Path, wandb: FakeWandb, capsys: pytest.CaptureFixture[str]
) -> None:
    wandb.points = [point(5000.0, 1.0), point(0.1, 1.0)]
    assert sweep(tmp_path) == ExitCode.OK
    assert [run.ended for run in wandb.runs] == [1, 0]
    assert len(rows(tmp_path)) == 1
    assert "training.learning_rate is 5000.0, but must be" in capsys.readouterr().err


def test_what_w_and_b_fails_with_is_one_line(tmp_path: Path, wandb: FakeWandb) -> None:
    wandb.failing = RuntimeError("no route to host\nTraceback and much more")
    with pytest.raises(Failure) as caught:
        sweep(tmp_path)
    assert caught.value.code == ExitCode.UNAVAILABLE
    assert caught.value.message == (
        "W&B: no route to host; --reporting-wandb offline sweeps without it"
    )


def test_without_a_key_online_is_refused(
    tmp_path: Path, wandb: FakeWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    with pytest.raises(Failure, match="W&B online needs a key"):
        sweep(tmp_path, "--reporting-wandb", "online")
    assert not wandb.sweeps


def test_seeds_are_a_parameter_where_w_and_b_says_what_to_try(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    with pytest.raises(Failure, match="make seed one of the parameters"):
        sweep(tmp_path, "--seeds", "3")
    assert not wandb.sweeps


def test_faults_of_a_grid_are_told_before_w_and_b_hears_of_it(
    tmp_path: Path, wandb: FakeWandb
) -> None:
    text = "method: grid\nparameters: {training.learning_rate: {values: [0.1, 5000]}}"
    with pytest.raises(Failure, match=r"training\.learning_rate is 5000, but must be"):
        sweep(tmp_path, text=text)
    assert not wandb.sweeps


def test_an_id_may_name_its_project_and_entity() -> None:
    assert where_of(None, None, "birds") == Where(None, "birds", None)
    assert where_of("abc", "flock", "birds") == Where("flock", "birds", "abc")
    assert where_of("geese/abc", "flock", "birds") == Where("flock", "geese", "abc")
    assert where_of("herd/geese/abc", "flock", "birds") == Where("herd", "geese", "abc")


def test_a_value_is_found_however_it_is_nested() -> None:
    definition: Any = SimpleNamespace(parameters={"a.b.c": None, "d": None})
    for config in ({"a.b.c": 1, "d": 2}, {"a": {"b": {"c": 1}}, "d": 2}, {"a": {"b.c": 1}, "d": 2}):
        assert point_of(definition, config) == {"a.b.c": 1, "d": 2}
