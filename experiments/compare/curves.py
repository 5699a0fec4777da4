"""Accuracy against virtual time, updates, bytes and work, as figures of matplotlib."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from experiments.compare.comparison import Compared, Comparison, Curve
from experiments.compare.ink import INK, Pen, pens
from experiments.compare.spread import middle_curve, over_seeds
from experiments.compare.table import time_text
from experiments.wording import bytes_text

_MARKS = 9
# Ends so many times apart do not fit on one straight axis.
_APART = 12.0
_TIMES = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86_400, 7 * 86_400, 30 * 86_400)
# Steps at which an eye expects the marks of an axis of days, hours, minutes or seconds.
_STEPS = {86_400: [1, 2, 5, 10], 3600: [1, 2, 3, 6, 10], 60: [1, 1.5, 2, 3, 5, 6, 10]}
_STEPS[1] = _STEPS[60]


def against_time(made: Comparison) -> Figure | None:
    """Accuracy against virtual time: the whole width, with a legend for all figures below."""
    if not any(one.outcomes and any(o.curve.time_s for o in one.outcomes) for one in made.methods):
        return None
    figure = Figure(figsize=(9.6, 4.7), layout="constrained")
    axes = figure.subplots()
    _draw(axes, made, lambda curve: curve.time_s)
    _time_axis(axes, _ends(made, lambda curve: curve.time_s))
    axes.set_ylabel("accuracy on the test images")
    axes.set_xlabel("time of the clock" if made.real else "virtual time")
    figure.legend(loc="outside upper left", ncols=min(6, len(made.methods) or 1))
    return figure


def against_work(made: Comparison) -> Figure | None:
    """Accuracy against updates, bytes sent up, and passes over the images."""
    panels: list[tuple[str, Callable[[Curve], Sequence[float]], Any]] = [
        ("against updates", lambda curve: curve.updates, lambda x, _: f"{x:,.0f}"),
        ("against bytes sent up", lambda curve: curve.bytes_up, lambda x, _: bytes_text(x)),
        ("against work (passes)", lambda curve: curve.passes, lambda x, _: f"{x:g}"),
    ]
    panels = [one for one in panels if _ends(made, one[1])]
    if not panels:
        return None
    figure = Figure(figsize=(9.6, 3.3), layout="constrained")
    every = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for axes, (title, column, word) in zip(every, panels, strict=True):
        _draw(axes, made, column, targets=False)
        axes.set_title(title)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
        axes.xaxis.set_major_formatter(FuncFormatter(word))
        axes.set_xlim(left=0)
    every[0].set_ylim(0, 1.05 * _highest(made))
    every[0].set_ylabel("accuracy")
    return figure


def _draw(
    axes: Axes,
    made: Comparison,
    column: Callable[[Curve], Sequence[float]],
    *,
    targets: bool = True,
) -> None:
    drawn = pens(made.methods)
    for order, method in enumerate(made.methods):
        _draw_one(axes, method, drawn[method.name], column, order)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_ylim(0, 1.05 * max(_highest(made), *made.targets, 0))
    if targets:
        for target in made.targets:
            axes.axhline(target, color=INK, linewidth=0.8, dashes=(2, 3), zorder=1)
            axes.annotate(
                f"target {target:.0%}",
                (1, target),
                xycoords=("axes fraction", "data"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                color=INK,
                fontsize=9,
            )


def _draw_one(
    axes: Axes,
    method: Compared,
    pen: Pen,
    column: Callable[[Curve], Sequence[float]],
    order: int,
) -> None:
    curves = [(column(o.curve), o.curve.accuracy) for o in method.outcomes]
    # What sends no updates has no place on an axis of updates.
    moving = [(x, y) for x, y in curves if len(x) == len(y) and x and x[-1] > 0]
    if not moving:
        level = over_seeds(method, lambda outcome: outcome.accuracy)
        if level.median is not None:
            axes.axhline(
                level.median,
                color=pen.colour,
                linestyle=pen.dashes,
                linewidth=1.4,
                label=method.label,
            )
            if level.low != level.high:
                axes.axhspan(
                    level.low or 0, level.high or 0, color=pen.colour, alpha=0.1, linewidth=0
                )
        return
    x, middle, low, high = middle_curve(moving)
    if len(moving) > 1:
        axes.fill_between(x, low, high, color=pen.colour, alpha=0.16, linewidth=0)
    axes.plot(
        x,
        middle,
        color=pen.colour,
        linestyle=pen.dashes,
        marker=pen.mark or None,
        markevery=_marks(len(x), order),
        markeredgecolor="none",
        label=method.label,
        zorder=3,
    )


def _marks(points: int, order: int) -> slice:
    """Few marks on a curve, those of each method at places of their own."""
    every = max(1, points // _MARKS)
    return slice(order * every // 6 % every, None, every)


def _ends(made: Comparison, column: Callable[[Curve], Sequence[float]]) -> list[float]:
    columns = [column(o.curve) for method in made.methods for o in method.outcomes]
    return [one[-1] for one in columns if one and one[-1] > 0]


def _highest(made: Comparison) -> float:
    ends = [o.best_accuracy or 0.0 for method in made.methods for o in method.outcomes]
    return max(ends) or 1.0


def _time_axis(axes: Axes, ends: Sequence[float]) -> None:
    last = max(ends)
    if last > _APART * min(ends):
        first = min(line[0] for line in _starts(axes) if line[0] > 0)
        axes.set_xscale("log")
        axes.set_xlim(first * 0.9, last * 1.1)
        shown = [at for at in _TIMES if first * 0.9 <= at <= last * 1.1]
        axes.set_xticks(shown, [time_text(at) for at in shown])
        axes.minorticks_off()
        return
    axes.set_xlim(0, last * 1.02)
    unit = next((size for size in (86_400, 3600, 60) if last >= 3 * size), 1)
    ticks = MaxNLocator(nbins=8, steps=_STEPS[unit]).tick_values(0, last / unit)
    name = {86_400: "d", 3600: "h", 60: "min", 1: "s"}[unit]
    inside = [float(tick) for tick in ticks if 0 <= tick * unit <= last * 1.02]
    axes.set_xticks([tick * unit for tick in inside], [f"{tick:g} {name}" for tick in inside])


def _starts(axes: Axes) -> list[Any]:
    columns: list[Any] = [line.get_xdata() for line in axes.get_lines()]
    return [one for one in columns if len(one) > 2]
