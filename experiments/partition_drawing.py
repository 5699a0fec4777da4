"""A partition as a figure of matplotlib: labels by devices, over them how much each device has.

Only `partition_picture` imports this, and only when a picture is asked for.
"""

from __future__ import annotations

from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from experiments.partition_description import PartitionDescription

# Inches of title above all else, and its margin.
_HEAD, _MARGIN = 0.74, 0.14
# Up to so many devices each has a column that an eye can tell from the next.
_COLUMNS = 120
# Up to so many, a cell has room for its number.
_NUMBERED = 16
# Beyond so many, cells are pixels in an SVG, too.
_CELLS = 8_000
_NAMED_LABELS = 60
_INK, _QUIET, _LINE = "#22303c", "#5b6b79", "#d4dbe1"
_TRAIN, _HELD_OUT, _NOISE = "#1f6f8b", "#9cc5d3", "#d9822b"
_SHADES = ("#edf6f7", "#b4dbdf", "#62aebd", "#1f6f8b", "#0b3a53")
# For who draws: how the figure is meant to look, whatever somebody's own matplotlibrc says.
STYLE = {
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,
    "axes.edgecolor": _LINE,
    "axes.labelcolor": _QUIET,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": _QUIET,
    "ytick.color": _QUIET,
    "xtick.labelcolor": _INK,
    "ytick.labelcolor": _INK,
}


def drawn(made: PartitionDescription) -> Figure:
    """A figure: how much each device has, of which labels, and how noisy."""
    devices, labels = len(made.devices), len(made.class_names)
    noisy = any(part.noise for part in made.devices)
    panels = [1.1, min(max(0.3 * labels, 1.0), 9.0)] + ([0.7] if noisy else [])
    width, height = min(max(0.085 * devices + 2.5, 8.0), 15.0), sum(panels) + 0.9 + _HEAD
    figure = Figure(figsize=(width, height), layout="constrained")
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - _HEAD / height))  # type: ignore[union-attr,call-arg]
    axes = figure.subplots(
        len(panels), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": panels}
    )[:, 0]
    _draw_sizes(axes[0], made)
    _draw_counts(figure, axes[1], made)
    if noisy:
        _draw_noise(axes[2], made)
    _number_devices(axes, devices)
    _entitle(figure, made)
    return figure


def _draw_sizes(axes: Axes, made: PartitionDescription) -> None:
    train = np.array([part.train for part in made.devices])
    held_out = np.array([part.held_out for part in made.devices])
    _bars(axes, train, np.zeros_like(train), _TRAIN, "to train on")
    _bars(axes, train + held_out, train, _HELD_OUT, "held out")
    axes.set_ylabel("images")
    axes.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))
    axes.yaxis.set_major_formatter("{x:,.0f}")
    axes.set_ylim(0, 1.08 * (train + held_out).max())
    axes.grid(axis="y", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=2,
        frameon=False,
        borderaxespad=0.0,
        handlelength=1.0,
        columnspacing=1.2,
    )


def _bars(
    axes: Axes,
    tops: npt.NDArray[np.int64],
    bottoms: npt.NDArray[np.int64],
    colour: str,
    name: str,
) -> None:
    edges = np.arange(len(tops) + 1) - 0.5
    if len(tops) <= _COLUMNS:
        axes.bar(
            np.arange(len(tops)), tops - bottoms, 0.8, bottom=bottoms, color=colour, label=name
        )
    else:
        many = len(tops) * 10 > _CELLS
        axes.stairs(
            tops, edges, baseline=bottoms, fill=True, color=colour, label=name, rasterized=many
        )


def _draw_counts(figure: Figure, axes: Axes, made: PartitionDescription) -> None:
    counts = np.array([part.labels for part in made.devices]).T
    labels, devices = counts.shape
    shades = LinearSegmentedColormap.from_list("counts", _SHADES).with_extremes(bad="white")
    # The root lets few be seen beside many; none at all is white.
    norm = PowerNorm(0.5, vmin=1, vmax=max(int(counts.max()), 2))
    shown = np.ma.masked_equal(counts, 0)
    lines = devices <= _COLUMNS
    mesh = axes.pcolormesh(
        np.arange(devices + 1) - 0.5,
        np.arange(labels + 1) - 0.5,
        shown,
        cmap=shades,
        norm=norm,
        edgecolors="white" if lines else "none",
        linewidth=0.8 if lines else 0.0,
        rasterized=counts.size > _CELLS,
    )
    if devices <= _NUMBERED:
        _number_cells(axes, counts, mesh)
    axes.set_ylim(labels - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    if labels <= _NAMED_LABELS:
        axes.set_yticks(range(labels), [name[:20] for name in made.class_names])
    else:
        axes.set_ylabel("label")
    for side in axes.spines.values():
        side.set_visible(True)
    bar = figure.colorbar(
        mesh,
        ax=axes,
        pad=0.012,
        fraction=0.05,
        aspect=30,
        ticks=MaxNLocator(nbins=8, integer=True),
        format="{x:,.0f}",
    )
    bar.outline.set_visible(False)
    bar.set_label("images of one label")


def _number_cells(axes: Axes, counts: npt.NDArray[np.int64], mesh: Any) -> None:
    for (label, device), count in np.ndenumerate(counts):
        if count:
            dark = mesh.norm(count) > 0.55
            axes.text(
                device,
                label,
                f"{count:,}",
                ha="center",
                va="center",
                fontsize=8,
                color="white" if dark else _INK,
            )


def _draw_noise(axes: Axes, made: PartitionDescription) -> None:
    levels = np.array([part.noise for part in made.devices])
    edges = np.arange(len(levels) + 1) - 0.5
    axes.stairs(levels, edges, fill=True, color=_NOISE, rasterized=len(levels) * 10 > _CELLS)
    axes.set_ylim(0, 1.15 * levels.max())
    axes.set_ylabel("noise")


def _number_devices(axes: npt.NDArray[Any], devices: int) -> None:
    for above in axes[:-1]:
        above.tick_params(axis="x", length=0)
    last = axes[-1]
    last.set_xlim(-0.5, devices - 0.5)
    last.xaxis.set_major_locator(
        MaxNLocator(nbins=20, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1)
    )
    last.set_xlabel("device")


def _entitle(figure: Figure, made: PartitionDescription) -> None:
    sizes = [part.train + part.held_out for part in made.devices]
    owned = [sum(count > 0 for count in part.labels) for part in made.devices]
    note = "GENERATED, NOT REAL: " if made.generated else ""
    width, height = figure.get_size_inches()
    title = f"{sum(sizes):,} images on {_many(len(sizes), 'device')}, cut {made.cut}"
    lines = (
        (title, min(12.0, 120 * width / len(title)), _INK),
        (f"a device has {_range(sizes, 'image')} of {_range(owned, 'label')}", 9.5, _INK),
        (f"{note}{made.source[-80:]}, seed {made.seed}", 8, _QUIET),
    )
    for (text, size, colour), below in zip(lines, (0.28, 0.49, 0.66), strict=True):
        figure.text(
            _MARGIN / width,
            1 - below / height,
            text,
            fontsize=size,
            color=colour,
            fontweight="bold" if text is title else "normal",
        )


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def _range(numbers: list[int], name: str) -> str:
    low, high = min(numbers), max(numbers)
    if low == high:
        return _many(low, name)
    return f"{low:,} to {high:,} {name}s (median {median(numbers):,.0f})"
