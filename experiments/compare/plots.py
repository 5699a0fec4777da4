"""What became of classes, devices and updates, as figures of matplotlib."""

from __future__ import annotations

from statistics import fmean, median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from experiments.compare.comparison import Compared, Comparison
from experiments.compare.ink import INK, LINE, PAPER, QUIET, Pen, pens
from experiments.compare.spread import over_seeds

TIMES = "\N{MULTIPLICATION SIGN}"
_WIDTH = 9.6
_NAMED = 24
_ROOM = 0.72
_STALEST = 20


def recalls(made: Comparison) -> Figure | None:
    """Accuracy by class, a row a class, the ones known worst above."""
    rows = {
        method.name: _mean_by_name(o.recall for o in method.outcomes) for method in made.methods
    }
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    if not names:
        return None
    federated = [one.name for one in made.methods if one.kind == "federated"] or list(rows)
    names.sort(key=lambda name: fmean(rows[one].get(name, 0.0) for one in federated))
    return _dots(made, names, rows, "share of the class's test images that is told right", 1.0)


def weights(made: Comparison) -> Figure | None:
    """How much each label is heard: its share in the training, against that in the images."""
    rows = {}
    for method in made.methods:
        told = [o.label_weight for o in method.outcomes if o.label_weight]
        if told:
            means = [fmean(column) for column in zip(*told, strict=True)]
            rows[method.name] = dict(zip(made.class_names, means, strict=False))
    names = [name for name in made.class_names if any(name in row for row in rows.values())]
    if not names:
        return None
    return _dots(
        made, names, rows, "times its share in all images (1: heard as it should be)", None
    )


def participation(made: Comparison) -> Figure | None:
    """Updates of each device against how slow it is: a panel a method."""
    shown = [one for one in made.methods if any(o.device_updates for o in one.outcomes)]
    if not shown:
        return None
    drawn, columns = pens(made.methods), min(4, len(shown))
    lines = -(-len(shown) // columns)
    figure = Figure(figsize=(_WIDTH, 2.6 * lines + 0.4), layout="constrained")
    every = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).ravel()
    slow = [s for one in shown for o in one.outcomes for s in o.slowness]
    wide = max(slow) > 4 * min(slow)
    for axes, method in zip(every, shown, strict=False):
        pen = drawn[method.name]
        for outcome in method.outcomes:
            axes.plot(
                outcome.slowness,
                outcome.device_updates,
                linestyle="none",
                marker=pen.mark or "o",
                markersize=4.5,
                color=pen.colour,
                alpha=0.75,
                markeredgecolor=PAPER,
                markeredgewidth=0.4,
            )
        axes.set_title(method.label)
        axes.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    most = max(max(o.device_updates) for one in shown for o in one.outcomes)
    every[0].set_ylim(-0.04 * most, 1.08 * most + 0.5)
    if wide:
        # Decades, and between them what there is room for.
        wide_by = max(slow) / min(slow)
        steps = (1, 2, 5) if wide_by < 30 else (1, 3) if wide_by < 300 else (1,)
        every[0].set_xscale("log")
        ticks = [step * 10.0**power for power in range(-3, 5) for step in steps]
        low, high = 0.8 * min(slow), 1.25 * max(slow)
    else:
        ticks = [float(at) for at in MaxNLocator(nbins=4).tick_values(0, 1.15 * max(slow))]
        low, high = 0.0, 1.15 * max(slow)
    inside = [tick for tick in ticks if low <= tick <= high]
    for axes in every:
        axes.set_xticks(inside, [f"{tick:g}{TIMES}" for tick in inside])
        axes.minorticks_off()
    every[0].set_xlim(low, high)
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    figure.supxlabel(
        "time an image takes the device, the typical one being 1", color=QUIET, size=10
    )
    figure.supylabel("updates in versions", color=QUIET, size=10)
    return figure


def on_devices(made: Comparison) -> Figure | None:
    """The model where it is used: mean and worst decile over devices, a row a method."""
    shown = [one for one in made.methods if any(o.on_device for o in one.outcomes)]
    if not shown:
        return None
    drawn = pens(made.methods)
    figure = Figure(figsize=(_WIDTH, 0.42 * len(shown) + 0.9), layout="constrained")
    axes = figure.subplots()
    for row, method in enumerate(shown):
        pen = drawn[method.name]
        mean = over_seeds(method, lambda o: o.on_device.get("mean")).median
        worst = over_seeds(method, lambda o: o.on_device.get("worst_decile")).median
        if mean is None or worst is None:
            continue
        axes.plot([worst, mean], [row, row], color=pen.colour, linewidth=2.4, zorder=2)
        axes.plot(worst, row, "o", color=pen.colour, markerfacecolor=PAPER, markersize=8, zorder=3)
        axes.plot(mean, row, "o", color=pen.colour, markersize=8, zorder=3)
        axes.annotate(
            f"{mean:.1%}, worst decile {worst:.1%}",
            (1, row),
            (10, -3.5),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            fontsize=9,
            color=QUIET,
        )
    _rows(axes, [one.label for one in shown])
    axes.set_xlim(-0.01, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel("accuracy on devices' own held-out images: worst decile (open), mean (full)")
    return figure


def stalenesses(made: Comparison) -> Figure | None:
    """How many versions updates had missed: the share of each number, a line a method."""
    shown = [one for one in made.methods if any(o.staleness for o in one.outcomes)]
    fresh = [one for one in shown if all(set(o.staleness) <= {0} for o in one.outcomes)]
    shown = [one for one in shown if one not in fresh]
    if not shown:
        return None
    drawn = pens(made.methods)
    figure = Figure(figsize=(_WIDTH, 3.0), layout="constrained")
    axes = figure.subplots()
    most = min(
        _STALEST, max(missed for one in shown for o in one.outcomes for missed in o.staleness)
    )
    for method in shown:
        pen = drawn[method.name]
        counts = [0.0] * (most + 1)
        for outcome in method.outcomes:
            for missed, count in outcome.staleness.items():
                counts[min(missed, most)] += count
        total = sum(counts)
        axes.plot(
            range(most + 1),
            [count / total for count in counts],
            color=pen.colour,
            linestyle=pen.dashes,
            marker=pen.mark or None,
            label=method.label,
        )
    if fresh:
        axes.plot([], [], " ", label="never stale: " + ", ".join(one.label for one in fresh))
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=12, integer=True))
    if most == _STALEST:
        axes.xaxis.set_major_formatter(
            FuncFormatter(lambda x, _: f"{x:.0f} or more" if x == _STALEST else f"{x:.0f}")
        )
    axes.set_xlabel("versions that an update had missed when it was used")
    axes.set_ylabel("share of its updates")
    axes.legend(loc="upper right")
    return figure


def _dots(
    made: Comparison,
    names: list[str],
    rows: dict[str, dict[str, float]],
    title: str,
    most: float | None,
) -> Figure:
    """A row a name, a mark a method; a grey line from the least to the greatest."""
    drawn = pens(made.methods)
    height = min(max(0.4 * len(names), 1.4), 12.0)
    figure = Figure(figsize=(_WIDTH, height + 1.0), layout="constrained")
    axes = figure.subplots()
    for row, name in enumerate(names):
        values = [one[name] for one in rows.values() if name in one]
        low, high = min(values), max(values)
        axes.fill_between([low, high], row - 0.4, row + 0.4, color=LINE, alpha=0.45, linewidth=0)
    there = [method for method in made.methods if method.name in rows]
    for order, method in enumerate(there):
        # A little apart from each other, so that none hides another.
        off = _ROOM * ((order + 0.5) / len(there) - 0.5)
        _mark(axes, method, drawn[method.name], rows[method.name], names, off)
    _rows(axes, names if len(names) <= _NAMED else None)
    if most is None:
        axes.axvline(1, color=INK, linewidth=1, dashes=(2, 3), zorder=1)
        far = max(abs(value - 1) for row in rows.values() for value in row.values())
        far = max(0.1, 1.15 * far)
        axes.set_xlim(max(-0.01, 1 - far), 1 + far)
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}{TIMES}"))
    else:
        axes.set_xlim(-0.01, most + 0.01)
        axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.set_xlabel(title)
    figure.legend(loc="outside upper left", ncols=6, handlelength=1.5)
    return figure


def _mark(
    axes: Axes, method: Compared, pen: Pen, row: dict[str, float], names: list[str], off: float
) -> None:
    at = [(row[name], place + off) for place, name in enumerate(names) if name in row]
    axes.plot(
        [value for value, _ in at],
        [place for _, place in at],
        linestyle="none",
        marker=pen.mark or ("|" if method.kind == "central" else "x"),
        markersize=6 if pen.mark else 7,
        clip_on=False,
        markeredgewidth=0.6 if pen.mark else 2.2,
        markeredgecolor=PAPER if pen.mark else pen.colour,
        color=pen.colour,
        label=method.label,
        zorder=3,
    )


def _rows(axes: Axes, names: list[str] | None) -> None:
    if names is not None:
        axes.set_yticks(range(len(names)), [name[:24] for name in names], color=INK)
        axes.set_ylim(len(names) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def _mean_by_name(several: object) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for one in several:  # type: ignore[attr-defined]
        for name, value in one.items():
            found.setdefault(name, []).append(value)
    return {name: median(values) for name, values in found.items()}
