"""The figures of a report in their order, each with its heading and what it shows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from html import escape

from matplotlib.figure import Figure

from experiments.compare import curves, plots
from experiments.compare.comparison import Comparison
from experiments.compare.ink import Pen, as_svg
from experiments.partition_description import DevicePart, PartitionDescription
from experiments.partition_drawing import STYLE, drawn


def figures(made: Comparison, pens: Mapping[str, Pen]) -> Iterator[str]:
    """Those for which there is something to draw."""
    time = "time of the clock" if made.real else "virtual time"
    for name, heading, draw, caption in (
        (
            "time",
            f"Accuracy against {time}",
            curves.against_time,
            "Each point is a tested version. The central training is drawn as if one typical device"
            " had all images; devices alone by the mean of what they came to in the end. With"
            " several seeds, the line is the median and the band what lies between them.",
        ),
        (
            "work",
            "Accuracy against what it takes",
            curves.against_work,
            "Updates in versions; bytes of the updates that were accepted; and passes over the"
            " images. What sends nothing is a level line: where it ended.",
        ),
        (
            "classes",
            "Is a class forgotten?",
            plots.recalls,
            "The share of each class that the version tested last tells right; the class that the"
            " federated methods know worst is above.",
        ),
        (
            "participation",
            "Who takes part",
            plots.participation,
            "A point is a device: how slow it is, and how many of its updates went into a version.",
        ),
        (
            "labels",
            "Whose labels are heard",
            plots.weights,
            "Of the images that accepted updates were trained on, the share of each label, divided"
            " by its share in all images. Left of 1, a label is heard too little.",
        ),
        (
            "devices",
            "Where the model is used",
            plots.on_devices,
            "Each device tests the versions that it receives on images that it never trains on; the"
            " last of these tests counts. Alone, it tests its own model. The worst decile is the"
            " mean of the tenth of the devices that fare worst.",
        ),
        (
            "staleness",
            "How old updates are",
            plots.stalenesses,
            "An update is stale when versions were made while its device trained.",
        ),
    ):
        svg = as_svg(name, partial(draw, made), f"{heading}. {caption}", pens.values())
        yield _figure(heading, svg, caption)
    yield _figure("Who has what", _partition(made), "", card=True)


def _figure(heading: str, svg: str, caption: str, *, card: bool = False) -> str:
    if not svg:
        return ""
    told = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    kind = "wide card" if card else "wide"
    return f'<h2>{escape(heading)}</h2>\n<figure><div class="{kind}">{svg}</div>{told}</figure>'


def _partition(made: Comparison) -> str:
    if not made.devices or not all(device.labels for device in made.devices):
        return ""
    parts = tuple(DevicePart(d.name, d.images, 0, d.labels, 0.0) for d in made.devices)
    described = PartitionDescription(
        made.source, made.generated, made.seed, made.cut, {}, made.class_names, parts, "", 0
    )
    alt = "Training images by label and device"

    def draw() -> Figure:
        figure = drawn(described)
        # Only what a device trains on is known here: nothing to tell apart.
        if (legend := figure.axes[0].get_legend()) is not None:
            legend.remove()
        return figure

    return as_svg("partition", draw, alt, own_style=STYLE)
