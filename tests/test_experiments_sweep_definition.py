"""Definitions of sweeps: as W&B's users write them, and every fault of one told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from experiments.sweep.definition import Definition, read_definition

HOUSE = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((HOUSE / "benchmarks" / "federations").glob("sweep-*.yaml"))

FULL = """
program: train.py
command: ["${env}", python, "${program}"]
name: how far to step
project: birds
entity: flock
method: random
run_cap: 12
metric: {name: global/accuracy, goal: maximize, target: 0.9}
early_terminate: {type: hyperband, min_iter: 3}
parameters:
  training.learning_rate: {distribution: log_uniform_values, min: 1e-3, max: 1}
  aggregation:
    parameters:
      step_size: {values: [0.5, 1.0], probabilities: [0.3, 0.7]}
      buffer_size: {min: 5, max: 20}
  strategy: {value: fedbuff}
"""


def read(tmp_path: Path, text: str) -> Definition:
    path = tmp_path / "sweep.yaml"
    path.write_text(text)
    return read_definition(path)


def faults(tmp_path: Path, text: str) -> list[str]:
    with pytest.raises(Failure) as caught:
        read(tmp_path, text)
    assert caught.value.code == ExitCode.CONFIG
    source = str(tmp_path / "sweep.yaml")
    lines = caught.value.message.splitlines()
    assert all(line.startswith(f"{source}: ") for line in lines)
    return [line.removeprefix(f"{source}: ") for line in lines]


def test_a_definition_says_what_is_tried_and_what_for(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    assert (found.name, found.project, found.entity) == ("how far to step", "birds", "flock")
    assert (found.method, found.run_cap) == ("random", 12)
    assert (found.metric.name, found.metric.maximize, found.metric.target) == (
        "global/accuracy",
        True,
        0.9,
    )
    assert found.early_terminate is not None
    assert found.early_terminate.bands[:3] == (3, 9, 27)


def test_nested_parameters_are_settings_by_their_dotted_names(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    assert list(found.parameters) == [
        "aggregation.buffer_size",
        "aggregation.step_size",
        "strategy",
        "training.learning_rate",
    ]
    assert found.varied == tuple(name for name in found.parameters if name != "strategy")


def test_numbers_with_an_exponent_are_numbers_without_a_point_too(tmp_path: Path) -> None:
    rate = read(tmp_path, FULL).parameters["training.learning_rate"]
    assert rate.told == {"min": 0.001, "max": 1}


def test_what_would_start_another_program_is_told_and_left_out(tmp_path: Path) -> None:
    found = read(tmp_path, FULL)
    assert found.notes == ("program and command not used: what runs is lab simulate",)
    assert found.wandb["method"] == "random"
    assert not {"program", "command"} & found.wandb.keys()


def test_without_a_metric_it_is_the_accuracy(tmp_path: Path) -> None:
    found = read(tmp_path, "method: grid\nparameters: {seed: {values: [1, 2]}}")
    assert (found.metric.name, found.metric.maximize) == ("global/accuracy", True)
    assert found.name == "sweep"


def test_without_a_goal_less_is_better_as_w_and_b_has_it(tmp_path: Path) -> None:
    text = "method: grid\nmetric: {name: global/loss}\nparameters: {seed: {values: [1]}}"
    found = read(tmp_path, text)
    assert not found.metric.maximize
    assert found.notes == ("metric has no goal: minimize, as W&B takes it",)


def test_all_faults_are_told_at_once_a_line_each(tmp_path: Path) -> None:
    text = """
metod: grid
method: gird
run_cap: many
metric: {name: accuracy, goal: max, taget: 1}
early_terminate: {type: hyperband}
parameters:
  aggregation.stepsize: {values: [1]}
  training: {value: 3}
  data: {value: images}
  reporting.project: {value: birds}
  seed: 3
  fleet: {parameters: {speed: {}}}
"""
    assert faults(tmp_path, text) == [
        "unknown key metod; did you mean method?",
        "method is 'gird', but must be one of grid, random, bayes",
        "metric.name accuracy is none that a simulation has; did you mean global/accuracy?",
        "metric.goal is 'max', but must be minimize or maximize",
        "metric has an unknown key taget; did you mean target?",
        "early_terminate needs min_iter, or max_iter and s: whole numbers that leave room for eta",
        "run_cap is 'many', but must be an integer above 0",
        "parameters: unknown setting aggregation.stepsize; did you mean aggregation.step_size?",
        "parameters.data is no parameter of a sweep: give it once for all runs",
        "parameters.fleet.speed needs value, values, min and max, or a distribution",
        "parameters.reporting.project is no parameter of a sweep: give it once for all runs",
        "parameters.seed must be a mapping, such as {values: [1, 2]}",
        "parameters.training is a section: name its settings, such as training.model",
    ]


def test_a_grid_has_an_end(tmp_path: Path) -> None:
    text = "method: grid\nparameters: {training.learning_rate: {min: 0.1, max: 1.0}}"
    assert faults(tmp_path, text) == [
        "parameters.training.learning_rate is uniform, of which a grid has no end"
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: [1\nb: {", "not YAML: expected ',' or ']', but got ':' (at line 2)"),
        ("- grid", "no sweep definition: not a mapping of keys"),
        ("method: grid", "parameters must name at least one parameter"),
        ("a: !!python/object/apply:os.system [true]", "not YAML: could not determine"),
    ],
)
def test_a_file_that_is_no_definition_says_so(tmp_path: Path, text: str, told: str) -> None:
    (line,) = faults(tmp_path, text)
    assert line.startswith(told)


def test_a_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=r"none\.yaml: cannot be read") as caught:
        read_definition(tmp_path / "none.yaml")
    assert caught.value.code == ExitCode.NO_INPUT


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_examples_are_good(path: Path) -> None:
    assert read_definition(path).parameters


def test_there_are_examples() -> None:
    assert EXAMPLES
