"""What the runs of a sweep come to: a line a point, the best first, with its spread over seeds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isinf
from statistics import median
from typing import Any

from experiments.sweep.metrics import Metric
from experiments.sweep.rows import Row
from experiments.wording import bytes_text, seconds_text

_SHARES = ("accuracy", "recall")


@dataclass(frozen=True, slots=True)
class Cell:
    """One point.

    Attributes:
        best: median over the seeds of the best value of the metric; least, most: extremes.
        final: median of the last values.
        reached: runs that came to the target; time_to_target is None unless most of them did, and
            so is its median then.
        early: runs that were ended as they fell behind.
        virtual_s, wall_s: medians.
    """

    parameters: Mapping[str, Any]
    seeds: tuple[int, ...]
    metric: str
    best: float | None
    least: float | None
    most: float | None
    final: float | None
    time_to_target: float | None
    reached: int
    early: int
    virtual_s: float
    wall_s: float


def cells(rows: Iterable[Row], metric: Metric) -> list[Cell]:
    """A cell for each point, the best first; those without the metric last."""
    points: dict[str, list[Row]] = {}
    for row in rows:
        if not row.problem:
            points.setdefault(json.dumps(row.parameters, sort_keys=True), []).append(row)
    made = [_cell(own, metric) for own in points.values()]

    def rank(cell: Cell) -> tuple[bool, float]:
        return cell.best is None, 0.0 if cell.best is None else metric.losses([cell.best])[0]

    return sorted(made, key=rank)


def table(found: Sequence[Cell], metric: Metric) -> Iterator[str]:
    """The cells in columns; parameters that are the same for all have a line of their own."""
    if not found:
        return
    names = list(dict.fromkeys(name for cell in found for name in cell.parameters))
    told = {name: {value_text(cell.parameters.get(name)) for cell in found} for name in names}
    varied = [name for name in names if len(told[name]) > 1] or names
    fixed = [f"{name} = {next(iter(told[name]))}" for name in names if name not in varied]
    if fixed:
        yield f"in all: {', '.join(fixed)}"
    several = any(len(cell.seeds) > 1 for cell in found)
    heads = [*varied, f"best {metric.name}", *(["spread"] if several else []), "final"]
    heads += ["to target", "virtual", "runs"]
    lines = [[*(value_text(cell.parameters.get(name)) for name in varied)] for cell in found]
    for line, cell in zip(lines, found, strict=True):
        line.append(figure_text(metric.name, cell.best))
        if several:
            line.append(_spread(metric.name, cell))
        line.append(figure_text(metric.name, cell.final))
        line.append(_to_target(cell))
        line.append(seconds_text(cell.virtual_s))
        line.append(f"{len(cell.seeds)}" + (f", {cell.early} early" if cell.early else ""))
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    for line in (heads, *lines):
        padded = (word.ljust(width) for word, width in zip(line, widths, strict=True))
        yield "  ".join(padded).rstrip()


def figure_text(name: str, value: float | None) -> str:
    """A value of a metric: shares in percent, times and bytes in their units."""
    if value is None:
        return "-"
    if any(word in name for word in _SHARES):
        return f"{value:.2%}"
    if name in ("time_to_target", "virtual_s"):
        return seconds_text(value)
    return bytes_text(value) if "bytes" in name else f"{value:.4g}"


def value_text(value: Any) -> str:
    """A value of a parameter, in a few characters."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _cell(rows: Sequence[Row], metric: Metric) -> Cell:
    best = [row.best for row in rows if row.best is not None]
    times = [row.time_to_target for row in rows if row.time_to_target is not None]
    finals = [row.final for row in rows if row.final is not None]
    return Cell(
        parameters=rows[0].parameters,
        seeds=tuple(sorted(row.seed for row in rows)),
        metric=metric.name,
        best=_median(best, len(rows) - len(best), metric.maximize),
        least=min(best, default=None),
        most=max(best, default=None),
        final=median(finals) if finals else None,
        time_to_target=_median(times, len(rows) - len(times), maximize=False),
        reached=len(times),
        early=sum(row.ending == "early" for row in rows),
        virtual_s=median(row.virtual_s for row in rows),
        wall_s=median(row.wall_s for row in rows),
    )


def _median(values: Sequence[float], missing: int, maximize: bool) -> float | None:
    """The median where the missing values are worse than all others; None if it is one of them."""
    worst = -inf if maximize else inf
    middle = median([*values, *[worst] * missing])
    return None if isinf(middle) else middle


def _spread(name: str, cell: Cell) -> str:
    return f"{figure_text(name, cell.least)} to {figure_text(name, cell.most)}"


def _to_target(cell: Cell) -> str:
    if not cell.reached:
        return "-"
    share = "" if cell.reached == len(cell.seeds) else f" ({cell.reached} of {len(cell.seeds)})"
    time = "no" if cell.time_to_target is None else seconds_text(cell.time_to_target)
    return time + share
