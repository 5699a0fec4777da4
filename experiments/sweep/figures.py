"""What is kept of a run of a sweep: the metric as it went, and what the run came to."""

from __future__ import annotations

from typing import Any

from coordinator.curves import Curves
from experiments.made_on import made_on
from experiments.simulation.summary import Summary
from experiments.sweep.metrics import AT_TARGET, Metric
from experiments.sweep.points import Run
from experiments.sweep.rows import Row


class Record:
    """Takes the rows of a simulation; the curves are those that W&B is shown."""

    def __init__(self, metric: Metric) -> None:
        self.history: list[float] = []
        self.figures: dict[str, float] = {}
        self._metric = metric
        self._curves = Curves()

    def take(self, row: dict[str, Any]) -> bool:
        """Take one row; whether it has a value of the metric."""
        shown = self._curves.take(row)
        if shown is None:
            return False
        self.figures |= {
            name: value for name, value in shown.scalars.items() if not name.startswith("device/")
        }
        value = shown.scalars.get(self._metric.name)
        if value is None:
            return False
        self.history.append(value)
        return True


def row_of(run: Run, metric: Metric, record: Record, summary: Summary, *, early: bool) -> Row:
    """The row of a run that is over."""
    at_target = dict(zip(AT_TARGET, _at_target(summary, run.settings.target), strict=True))
    history = record.history
    if not metric.is_curve:
        whole = {**at_target, "virtual_s": summary.virtual_s}[metric.name]
        history = [] if whole is None else [whole]
    return Row(
        key=run.key,
        parameters=run.point,
        seed=run.settings.seed,
        metric=metric.name,
        best=metric.best(history),
        final=history[-1] if history else None,
        history=tuple(history),
        figures=record.figures,
        time_to_target=at_target["time_to_target"],
        updates_to_target=at_target["updates_to_target"],
        bytes_to_target=at_target["bytes_to_target"],
        versions=summary.versions,
        updates=summary.updates,
        virtual_s=summary.virtual_s,
        wall_s=summary.wall_s,
        ending="early" if early else summary.ending,
        generated=summary.generated,
        model=summary.model,
        made_on=made_on(),
    )


def _at_target(summary: Summary, target: float | None) -> tuple[Any, Any, Any]:
    if target is not None:
        for point in summary.curve:
            if point.accuracy >= target:
                return point.time_s, point.updates, point.bytes_up
    return None, None, None
