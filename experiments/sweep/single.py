"""One run of a sweep, from its settings to its row, wherever it is carried out."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from coordinator.reporting import Sink
from experiments.made_on import made_on
from experiments.simulation.output import write_again
from experiments.simulation.run import simulate
from experiments.simulation.sinks import telling
from experiments.simulation.summary import summarize
from experiments.sweep.figures import Record, row_of
from experiments.sweep.halving import Hyperband
from experiments.sweep.metrics import Metric
from experiments.sweep.points import Run
from experiments.sweep.rows import Row
from learning.data import ImageSet

RUNS = "runs"


@dataclass(frozen=True, slots=True)
class Rules:
    """What all runs of a sweep have in common beside their settings.

    Attributes:
        output: the sweep's directory; each run has one of its own in it.
    """

    metric: Metric
    early_terminate: Hyperband | None
    output: Path | None


def carry_out(
    run: Run,
    rules: Rules,
    images: ImageSet,
    rivals: Sequence[Sequence[float]] = (),
    is_over: Callable[[], bool] = lambda: False,
    sinks: tuple[Sink, ...] = (),
) -> Row | None:
    """Simulate; None where it was broken off.

    Args:
        rivals: the metric of other runs, against which this one may be ended early.
        is_over: asked at each moment; whether to break it off.
        sinks: are told the rows, too.
    """
    record, behind = Record(rules.metric), False

    def on_row(row: dict[str, Any]) -> None:
        nonlocal behind
        tell(row)
        if record.take(row) and rules.early_terminate is not None:
            losses = rules.metric.losses(record.history)
            others = [rules.metric.losses(one) for one in rivals]
            behind = behind or rules.early_terminate.is_behind(losses, others)

    directory = directory_of(run, rules)
    if directory is not None:
        alone = run.settings.model_copy(update={"output": None, "print_json": False})
        write_again(directory, alone)
    try:
        with telling(run.settings, directory, images, sinks) as tell:
            story = simulate(run.settings, images, on_row, lambda: behind or is_over())
    except Failure as failure:
        return Row(
            key=run.key,
            parameters=run.point,
            seed=run.settings.seed,
            metric=rules.metric.name,
            problem=failure.message,
            made_on=made_on(),
        )
    if is_over():
        if directory is not None:
            shutil.rmtree(directory, ignore_errors=True)
        return None
    summary = summarize(run.settings, images, story)
    return row_of(run, rules.metric, record, summary, early=behind)


def directory_of(run: Run, rules: Rules) -> Path | None:
    """An empty directory for a run, as what an earlier attempt has left is no part of this one.

    Raises:
        Failure: it cannot be made.
    """
    if rules.output is None:
        return None
    directory = rules.output / RUNS / run.key
    try:
        if directory.exists():
            shutil.rmtree(directory)
        directory.mkdir(parents=True)
    except OSError as error:
        message = f"cannot write {directory}: {error.strerror}"
        raise Failure(ExitCode.CANNOT_WRITE, message) from None
    return directory
