"""One run of a sweep: what is kept of it, and when it ends before its settings say so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from config.simulation import SimulationSettings
from experiments.images import all_images, images_of
from experiments.sweep.halving import Hyperband
from experiments.sweep.local import rows_of
from experiments.sweep.metrics import Metric
from experiments.sweep.points import Run
from experiments.sweep.rows import Row
from experiments.sweep.single import RUNS, Rules, carry_out
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = SimulationSettings.model_validate(
    {
        "generated": True,
        "examples": 120,
        "test_examples": 40,
        "devices": 2,
        "versions": 4,
        "engine": "inline",
        "target": 0.01,
        "limit_s": 1e6,
        "aggregation": {"buffer_size": 2},
        "training": {"model": "tutorial-cnn"},
    }
)
RUN = Run("key", {"devices": 2}, SETTINGS.model_copy(update={"target": None}))
ACCURACY = Metric("global/accuracy", maximize=True)


def made(
    run: Run, rules: Rules, rivals: tuple[tuple[float, ...], ...] = (), is_over: bool = False
) -> Row | None:
    return carry_out(run, rules, images_of(run.settings), rivals, lambda: is_over)


def test_a_run_that_falls_behind_ends_early() -> None:
    rules = Rules(ACCURACY, Hyperband((1,), 2), None)
    row = made(RUN, rules, ((1.0, 1.0, 1.0, 1.0),) * 2)
    assert row is not None
    assert row.ending == "early"
    assert len(row.history) == 2


def test_a_run_that_is_ahead_goes_on() -> None:
    rules = Rules(ACCURACY, Hyperband((1,), 2), None)
    row = made(RUN, rules, ((0.0, 0.0, 0.0, 0.0),) * 2)
    assert row is not None
    assert row.ending == "versions"
    assert len(row.history) == 4


def test_a_figure_of_the_whole_run_is_its_best_and_its_last() -> None:
    rules = Rules(Metric("time_to_target", maximize=False), None, None)
    reaching = made(Run("key", {}, SETTINGS), rules)
    assert reaching is not None
    assert reaching.ending == "target"
    assert reaching.history == (reaching.time_to_target,)
    assert reaching.best == reaching.final == reaching.time_to_target
    assert reaching.updates_to_target == reaching.updates
    assert reaching.bytes_to_target == reaching.figures["global/bytes_up"]
    missing = made(Run("key", {}, SETTINGS.model_copy(update={"target": 1.0})), rules)
    assert missing is not None
    assert (missing.best, missing.history, missing.time_to_target) == (None, (), None)


def test_a_run_that_is_broken_off_leaves_nothing(tmp_path: Path) -> None:
    assert made(RUN, Rules(ACCURACY, None, tmp_path), is_over=True) is None
    assert not list((tmp_path / RUNS).iterdir())


def test_what_a_killed_run_left_is_no_part_of_the_next(tmp_path: Path) -> None:
    folder = tmp_path / RUNS / RUN.key
    folder.mkdir(parents=True)
    (folder / "reports.jsonl").write_text('{"kind": "old"}\n')
    (folder / "wandb").mkdir()
    row = made(RUN, Rules(ACCURACY, None, tmp_path))
    assert row is not None
    assert "old" not in (folder / "reports.jsonl").read_text()
    assert not (folder / "wandb").exists()


def test_images_of_a_folder_are_those_of_a_simulation_in_every_process(tmp_path: Path) -> None:
    chance = np.random.default_rng(0)
    for part, count in (("train", 30), ("test", 10)):
        for name in ("cat", "owl"):
            folder = tmp_path / "images" / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = chance.integers(0, 256, (32, 32, 3), np.uint8)
                PIL.Image.fromarray(pixels).save(folder / f"{index}.png")
    told = {"generated": False, "data": tmp_path / "images", "examples": 40, "test_examples": 10}
    settings = SETTINGS.model_copy(update={**told, "target": None, "versions": 1})
    runs = [Run(f"key-{seed}", {}, settings.model_copy(update={"seed": seed})) for seed in (1, 2)]
    rules = Rules(ACCURACY, None, None)
    beside = [row.model for row in rows_of(runs, rules, all_images(settings), 1)]
    alone = [made(run, rules) for run in runs]
    assert beside == [row.model for row in alone if row is not None]
    assert len(set(beside)) == 2
