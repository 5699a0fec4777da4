"""What runs come to: medians over seeds, the best point first, and what did not get there last."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.failures import Failure
from experiments.sweep.metrics import Metric
from experiments.sweep.rows import Row, append_row, read_rows
from experiments.sweep.table import cells, table

ACCURACY = Metric("global/accuracy", maximize=True)
TIME = Metric("time_to_target", maximize=False)


def row(rate: float, seed: int, best: float | None, **more: Any) -> Row:
    told = {"metric": ACCURACY.name, "final": best, "virtual_s": 100.0, "key": f"{rate} {seed}"}
    parameters = {"training.learning_rate": rate, "training.model": "tutorial-cnn"}
    return Row(**{"parameters": parameters, "seed": seed, "best": best, **told, **more})


def test_a_point_is_the_median_of_its_seeds_and_their_spread() -> None:
    (cell,) = cells([row(0.1, 0, 0.5), row(0.1, 1, 0.7), row(0.1, 2, 0.6)], ACCURACY)
    assert (cell.best, cell.least, cell.most, cell.seeds) == (0.6, 0.5, 0.7, (0, 1, 2))


def test_the_best_point_comes_first_whatever_best_means() -> None:
    rows = [row(0.1, 0, 0.5), row(0.2, 0, None), row(0.3, 0, 0.7)]
    assert [cell.best for cell in cells(rows, ACCURACY)] == [0.7, 0.5, None]
    assert [cell.best for cell in cells(rows, TIME)] == [0.5, 0.7, None]


def test_a_run_that_does_not_reach_the_target_is_worse_than_any_that_does() -> None:
    times = (10.0, None, 30.0)
    rows = [row(0.1, n, one, time_to_target=one) for n, one in enumerate(times)]
    (cell,) = cells(rows, TIME)
    assert (cell.best, cell.time_to_target, cell.reached) == (30.0, 30.0, 2)
    (cell,) = cells(rows[:2], TIME)
    assert (cell.best, cell.time_to_target, cell.reached) == (None, None, 1)


def test_runs_that_failed_are_in_no_point() -> None:
    assert cells([row(0.1, 0, None, problem="training diverged")], ACCURACY) == []


def test_the_table_has_a_column_for_what_differs() -> None:
    rows = [row(0.1, 0, 0.5), row(0.1, 1, 0.7), row(0.01, 0, 0.4, ending="early")]
    common, heads, first, second = table(cells(rows, ACCURACY), ACCURACY)
    assert common == "in all: training.model = tutorial-cnn"
    assert heads.split() == [
        *("training.learning_rate", "best", "global/accuracy", "spread", "final"),
        *("to", "target", "virtual", "runs"),
    ]
    told = " ".join(first.split()), " ".join(second.split())
    assert told == (
        "0.1 60.00% 50.00% to 70.00% 60.00% - 1 min 40 s 2",
        "0.01 40.00% 40.00% to 40.00% 40.00% - 1 min 40 s 1, 1 early",
    )


def test_rows_are_read_as_they_were_written_but_for_those_that_failed(tmp_path: Path) -> None:
    path = tmp_path / "out" / "sweep.jsonl"
    good, bad = row(0.1, 0, 0.5, history=(0.2, 0.5)), row(0.1, 1, None, problem="no room")
    for one in (good, bad):
        append_row(path, one)
    with path.open("a") as file:
        file.write('{"key": "torn')
    append_row(path, row(0.2, 0, 0.6))
    assert read_rows(path, ACCURACY.name) == {good.key: good, "0.2 0": row(0.2, 0, 0.6)}


def test_no_rows_are_there_before_the_first(tmp_path: Path) -> None:
    assert read_rows(tmp_path / "sweep.jsonl", ACCURACY.name) == {}


def test_rows_of_another_metric_are_not_mixed_in(tmp_path: Path) -> None:
    append_row(tmp_path / "sweep.jsonl", row(0.1, 0, 0.5))
    with pytest.raises(Failure, match="has runs for global/accuracy, and the metric is"):
        read_rows(tmp_path / "sweep.jsonl", "global/loss")


def test_a_file_of_something_else_is_no_file_of_rows(tmp_path: Path) -> None:
    (tmp_path / "sweep.jsonl").write_text(json.dumps({"kind": "version"}) + "\n")
    with pytest.raises(Failure, match=r"sweep\.jsonl:1 is not a row of lab sweep"):
        read_rows(tmp_path / "sweep.jsonl", ACCURACY.name)
