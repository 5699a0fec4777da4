"""`flockwise lab simulate`: the same settings give the same bytes, whatever happens to devices."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import flockwise
from config.failures import ExitCode, Failure
from config.simulation import SimulationSettings
from experiments.simulation.engine import EngineEnded
from experiments.simulation.run import Story, simulate
from experiments.simulation.summary import Summary, points, summarize
from learning.data import ImageSet
from learning.generated import generated_images
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = {
    "devices": 6,
    "versions": 6,
    "engine": "inline",
    "evaluate_every": 3,
    "fleet": {"speed": "half_normal"},
    "partition": {"kind": "dirichlet", "alpha": 0.3, "held_out": 0.2},
    "aggregation": {"buffer_size": 3},
    "training": {"model": "tutorial-cnn", "augment": False},
}
UNRELIABLE = {
    "speed": "lognormal",
    "stragglers": 0.3,
    "straggler_labels": 2,
    "availability": "on_off",
    "on_s": 2.0,
    "off_s": 4.0,
    "crash": 0.3,
    "reboot_s": 1.0,
    "bandwidth": 500_000.0,
}


@pytest.fixture(scope="module")
def images() -> ImageSet:
    return generated_images(train=240, test=60, seed=0)


def settings(**values: Any) -> SimulationSettings:
    return SimulationSettings.model_validate({**SMALL, **values})


def went(images: ImageSet, **values: Any) -> tuple[Story, Summary]:
    chosen = settings(**values)
    story = simulate(chosen, images, lambda row: None)
    return story, summarize(chosen, images, story)


def figures(summary: Summary) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(summary.as_json())
    told["settings"].pop("engine")
    told["settings"].pop("workers")
    told.pop("wall_s")
    return told


def test_processes_make_the_same_federation_as_one_does(images: ImageSet) -> None:
    story, here = went(images, fleet=UNRELIABLE)
    other, there = went(images, fleet=UNRELIABLE, engine="local", workers=2)
    assert story.rows == other.rows
    assert figures(here) == figures(there)
    assert here.crashes > 0


def test_another_seed_is_another_federation(images: ImageSet) -> None:
    assert went(images, seed=1)[1].model != went(images, seed=2)[1].model


def test_devices_that_come_and_go_lose_nothing(images: ImageSet) -> None:
    story, summary = went(images, fleet=UNRELIABLE, versions=10)
    assert summary.ending == "versions"
    ids = [part.id for made in story.course.history for part in made.contributions]
    assert len(set(ids)) == len(ids) == summary.updates == 30
    for device in {id.device for id in ids}:
        taken = sorted(id.sequence for id in ids if id.device == device)
        assert taken == list(range(len(taken)))  # a crash numbers nothing anew


def test_who_is_away_takes_longer(images: ImageSet) -> None:
    always, often = (
        went(images, fleet={"availability": "on_off", "on_s": 3.0, "off_s": off_s})[1]
        for off_s in (1e-6, 9.0)
    )
    assert often.virtual_s > 2 * always.virtual_s


def test_a_slow_link_takes_longer(images: ImageSet) -> None:
    fast, slow = (went(images, fleet={"bandwidth": rate})[1] for rate in (1e9, 1e5))
    assert slow.virtual_s > fast.virtual_s + 6 * 0.3


def test_the_summary_adds_up(images: ImageSet) -> None:
    story, summary = went(images)
    assert [point.version for point in summary.curve] == [3, 6]
    assert [point.updates for point in summary.curve] == [9, 18]
    assert sum(part.updates for part in summary.parts) == summary.updates == 18
    assert sum(part.images for part in summary.parts) == 192
    assert sum(sum(part.labels) for part in summary.parts) == 192
    sent = sum(row["bytes"] for row in story.rows if row["kind"] == "update")
    assert summary.curve[-1].bytes_up <= sent < summary.bytes_up
    assert summary.time_to(0.0) == summary.curve[0].time_s
    assert summary.updates_to(1.1) is None


@pytest.mark.parametrize("strategy", ["fedavg", "fedasync", "fedbuff", "memory"])
def test_every_strategy_comes_to_its_end(images: ImageSet, strategy: str) -> None:
    summary = went(images, strategy=strategy, aggregation={"cooldown": 0})[1]
    assert (summary.ending, summary.versions) == ("versions", 6)


def test_a_target_ends_it(images: ImageSet) -> None:
    summary = went(images, target=0.01, evaluate_every=1)[1]
    assert summary.ending == "target"
    assert summary.versions < 6


def test_virtual_time_has_a_limit(images: ImageSet) -> None:
    summary = went(images, limit_s=0.5)[1]
    assert (summary.ending, summary.accuracy) == ("time", None)


def test_a_process_that_dies_ends_the_simulation(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> None:
        raise EngineEnded("a process that trains ended unexpectedly")

    monkeypatch.setattr("experiments.simulation.bench.Train.do", die)
    with pytest.raises(EngineEnded):
        went(images)


def test_images_that_have_no_room_are_told_in_one_line(
    images: ImageSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = shutil.disk_usage("/")._replace(free=1000)
    monkeypatch.setattr("experiments.simulation.bench.shutil.disk_usage", lambda _: full)
    with pytest.raises(Failure, match="no room for the images"):
        went(images)


def test_a_budget_of_time_makes_trainings_shorter(images: ImageSet) -> None:
    whole, cut = (
        went(images, training={**SMALL["training"], "budget_s": budget})[0]  # type: ignore[dict-item]
        for budget in (None, 0.05)
    )
    steps = [
        max(row["steps"] for row in one.rows if row["kind"] == "update") for one in (whole, cut)
    ]
    assert steps[1] < steps[0]


OPTIONS = [
    *("--generated", "--examples", "120", "--test-examples", "30", "--devices", "3"),
    *("--versions", "2", "--aggregation-buffer-size", "2", "--engine", "inline"),
    *("--training-model", "tutorial-cnn"),
]


def test_the_command_leaves_what_is_needed_to_do_it_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    assert flockwise.main(["lab", "simulate", *OPTIONS, "--output", str(first)]) == 0
    told = capsys.readouterr()
    assert "GENERATED, NOT REAL" in told.err
    assert "ON GENERATED IMAGES" in told.out
    again = ["--config", str(first / "settings.toml"), "--output", str(second), "--json"]
    assert flockwise.main(["lab", "simulate", *again]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["generated"] is True
    assert json.loads((first / "summary.json").read_bytes())["model"] == summary["model"]
    for name in ("reports.jsonl", "model.float32"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_what_is_there_is_not_written_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "summary.json").write_text("{}")
    code = flockwise.main(["lab", "simulate", *OPTIONS, "--output", str(tmp_path)])
    assert code == ExitCode.CANNOT_WRITE
    assert "choose another" in capsys.readouterr().err


def test_a_wrong_setting_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert flockwise.main(["lab", "simulate", "--fleet-crash", "1.5"]) == ExitCode.CONFIG
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "--fleet-crash" in told


def test_more_devices_than_images_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--generated", "--examples", "5", "--devices", "10"]
    assert flockwise.main(["lab", "simulate", *options]) == ExitCode.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_run_that_began_anew_goes_on_in_one_time() -> None:
    rows = [
        {"kind": "version", "version": 1, "updates": 2, "time_s": 100.0},
        {"kind": "evaluation", "version": 1, "accuracy": 0.3, "time_s": 110.0},
        {"kind": "version", "version": 2, "updates": 2, "time_s": 10.0},
        {"kind": "evaluation", "version": 2, "accuracy": 0.4, "time_s": 20.0},
    ]
    assert [point.time_s for point in points(rows)] == [100.0, 120.0]
