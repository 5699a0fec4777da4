"""From a definition to its points and runs: each once, in W&B's order, the same for one seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.failures import Failure
from config.loading import Gathered, gather
from config.sweep import SweepSettings
from experiments.sweep.definition import Definition, read_definition
from experiments.sweep.points import Run, points_of, runs_of

GRID = """
method: grid
parameters:
  training.learning_rate: {values: [0.1, 0.01]}
  aggregation.buffer_size: {values: [4, 2, 4]}
"""
DRAWS = """
method: random
parameters:
  training.learning_rate: {distribution: log_uniform_values, min: 0.001, max: 1.0}
  aggregation.buffer_size: {min: 2, max: 50}
"""


@pytest.fixture
def written(tmp_path: Path) -> Path:
    return tmp_path / "sweep.yaml"


def read(written: Path, text: str) -> Definition:
    written.write_text(text)
    return read_definition(written)


def gathered(written: Path, *argv: str) -> Gathered[SweepSettings]:
    words = ["--definition", str(written), *argv]
    return gather(SweepSettings, words, prog="flockwise lab sweep", environ={})


def runs(written: Path, text: str, *argv: str, images: str = "") -> list[Run]:
    definition = read(written, text)
    every = gathered(written, *argv)
    settings = every.settings()
    points = points_of(definition, settings.count, settings.seed)
    return runs_of(points, every, definition, images)


def test_a_grid_goes_through_names_in_order_and_through_values_as_written(written: Path) -> None:
    points = points_of(read(written, GRID), None, 0)
    assert [tuple(point.values()) for point in points] == [(4, 0.1), (4, 0.01), (2, 0.1), (2, 0.01)]
    assert list(points[0]) == ["aggregation.buffer_size", "training.learning_rate"]


def test_a_grid_is_cut_off_where_it_is_said(written: Path) -> None:
    assert len(points_of(read(written, GRID), 3, 0)) == 3
    assert len(points_of(read(written, GRID + "run_cap: 2\n"), 3, 0)) == 2


def test_the_same_seed_draws_the_same_points_and_more_begin_with_them(written: Path) -> None:
    few, many = (points_of(read(written, DRAWS), count, 7) for count in (3, 9))
    assert many[:3] == few
    assert points_of(read(written, DRAWS), 3, 8) != few


def test_a_further_parameter_leaves_the_draws_of_the_others(written: Path) -> None:
    before = points_of(read(written, DRAWS), 5, 0)
    after = points_of(read(written, DRAWS + "  seed: {min: 0, max: 9}\n"), 5, 0)
    assert [{**point, "seed": after[n]["seed"]} for n, point in enumerate(before)] == after


def test_what_is_drawn_twice_is_one_point(written: Path) -> None:
    text = "method: random\nparameters: {training.momentum: {values: [0.0, 0.9]}}"
    assert len(points_of(read(written, text), 20, 0)) == 2


def test_draws_without_an_end_are_refused(written: Path) -> None:
    with pytest.raises(Failure, match="method random has no end: give --count, or run_cap"):
        points_of(read(written, DRAWS), None, 0)


def test_bayes_draws_as_random_does(written: Path) -> None:
    draws = points_of(read(written, DRAWS), 4, 0)
    assert points_of(read(written, DRAWS.replace("random", "bayes")), 4, 0) == draws


def test_a_run_has_the_settings_of_its_point_over_all_others(written: Path) -> None:
    one = runs(written, GRID, "--training-learning-rate", "0.5", "--devices", "7")[1].settings
    assert (one.training.learning_rate, one.aggregation.buffer_size, one.devices) == (0.01, 4, 7)


def test_all_points_come_with_a_seed_before_the_next_seed(written: Path) -> None:
    made = runs(written, GRID, "--seeds", "2", "--seed", "5")
    assert [run.settings.seed for run in made] == [5] * 4 + [6] * 4
    assert [run.point for run in made[:4]] == [run.point for run in made[4:]]


def test_each_run_has_a_key_of_its_own_that_does_not_hang_on_where_it_runs(written: Path) -> None:
    made = runs(written, GRID, "--seeds", "2")
    assert len({run.key for run in made}) == 8
    other = ("--engine", "inline", "--workers", "3", "--reporting-wandb", "offline", "--jobs", "2")
    assert [run.key for run in runs(written, GRID, "--seeds", "2", *other)] == [
        run.key for run in made
    ]
    assert not {run.key for run in runs(written, GRID, images="others")} & {r.key for r in made}
    assert not {run.key for run in runs(written, GRID, "--devices", "3")} & {r.key for r in made}


def test_a_swept_strategy_brings_its_preset(written: Path) -> None:
    text = "method: grid\nparameters: {strategy: {values: [fedbuff, fedavg, fedasync]}}"
    triggers = [run.settings.aggregation.trigger for run in runs(written, text)]
    assert triggers == ["buffer", "rounds", "immediate"]


def test_faults_of_points_are_told_once_each_with_what_was_given(written: Path) -> None:
    text = """
method: grid
parameters:
  training.learning_rate: {values: [0.1, 5000]}
  aggregation.buffer_size: {values: [4]}
  aggregation.min_updates: {values: [1, 9]}
"""
    with pytest.raises(Failure) as caught:
        runs(written, text)
    where = f"{written}: parameters."
    assert sorted(caught.value.message.splitlines()) == [
        f"{where}training.learning_rate is 5000, but must be a number above 0, up to 100",
        "[aggregation] min_updates must not be greater than buffer_size"
        f" ({where}aggregation.buffer_size is 4, {where}aggregation.min_updates is 9)",
    ]


def test_a_sea_of_faults_is_cut_short(written: Path) -> None:
    text = f"method: grid\nparameters: {{devices: {{values: {list(range(-40, 0))}}}}}"
    with pytest.raises(Failure) as caught:
        runs(written, text)
    assert len(caught.value.message.splitlines()) == 21
    assert caught.value.message.endswith("and 20 more")


def test_a_time_to_target_needs_a_target(written: Path) -> None:
    text = GRID + "metric: {name: time_to_target}\n"
    with pytest.raises(Failure, match=r"metric\.name time_to_target needs target: --target"):
        runs(written, text)
    assert len(runs(written, text, "--target", "0.5")) == 4


def test_seeds_are_given_in_one_place(written: Path) -> None:
    text = "method: grid\nparameters: {seed: {values: [1, 2]}}"
    with pytest.raises(Failure, match=r"parameters\.seed and --seeds exclude each other"):
        runs(written, text, "--seeds", "2")
    assert [run.settings.seed for run in runs(written, text)] == [1, 2]


def test_points_are_plain_values(written: Path) -> None:
    text = DRAWS + "  training.epochs: {distribution: q_uniform, min: 1, max: 9, q: 2}\n"
    for point in points_of(read(written, text), 5, 0):
        assert json.loads(json.dumps(point)) == point
