"""How a sweep is told of while it goes on: a line for the plan, and one for each run."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from experiments.sweep.points import Point, Run
from experiments.sweep.rows import Row
from experiments.sweep.table import figure_text, value_text
from experiments.wording import count_text, seconds_text


def say(line: str) -> None:
    """Tell people, whatever stdout is for."""
    print(line, file=sys.stderr, flush=True)


def plan_line(points: Sequence[Point], runs: Sequence[Run], done: int, *, generated: bool) -> str:
    """What is to be done: `6 points, 18 runs; 4 done before`."""
    plan = f"{count_text(len(points), 'point')}, {count_text(len(runs), 'run')}"
    note = ", GENERATED IMAGES, NOT REAL" if generated else ""
    return plan + note + (f"; {done} done before" if done else "")


def row_line(row: Row, names: Sequence[str]) -> str:
    """What came of a run, and with which values of the parameters of these names."""
    values = " ".join(f"{name}={value_text(row.parameters.get(name))}" for name in names)
    if row.problem:
        return f"{values} seed {row.seed}: FAILED: {row.problem}"
    note = " GENERATED, NOT REAL" if row.generated else ""
    best, final = (figure_text(row.metric, value) for value in (row.best, row.final))
    early = ", ended early" if row.ending == "early" else ""
    took = f"{seconds_text(row.virtual_s)} virtual, {seconds_text(row.wall_s)} real"
    return f"{values} seed {row.seed}: {best} best, {final} final{note}{early}  {took}"


def name_of(run: Run, names: Sequence[str]) -> str:
    """A name for a run, of its values of these parameters and its seed."""
    values = [f"{name.rpartition('.')[2]}={value_text(run.point.get(name))}" for name in names]
    return " ".join([*values, f"seed={run.settings.seed}"])[:200]
