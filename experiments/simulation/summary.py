"""What a simulated federation came to: one value, made of the rows that it told."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from config.simulation import SimulationSettings
from experiments.simulation.run import Story
from learning.data import ImageSet


@dataclass(frozen=True, slots=True)
class Point:
    """A version that was tested: when it came about, and what had been sent and taken in by then.

    Attributes:
        time_s: virtual seconds.
        updates: those in it and in the versions before it.
        bytes_up: payload bytes of the updates that had been accepted.
    """

    version: int
    time_s: float
    updates: int
    bytes_up: int
    accuracy: float
    loss: float | None


@dataclass(frozen=True, slots=True)
class Part:
    """What one device had to do with it; `labels` counts its training images by class."""

    device: str
    images: int
    labels: tuple[int, ...]
    slowness: float
    updates: int
    accuracy: float | None  # of the newest model that it tested on its own held-out part


@dataclass(frozen=True, slots=True)
class Summary:
    """A simulation that is over.

    Attributes:
        ending: versions (all were made), target, or time (the limit of virtual time).
        bytes_up, bytes_down: all payloads of MQTT messages that devices sent and received.
        recall: accuracy by class, of the version tested last.
        on_device: accuracy of the model on the devices' own held-out images: mean, worst decile.
        model: digest of the last version; the same settings and images give the same.
    """

    source: str
    generated: bool
    settings: Mapping[str, Any]
    ending: str
    virtual_s: float
    wall_s: float
    versions: int
    updates: int
    refused: Mapping[str, int]
    crashes: int
    bytes_up: int
    bytes_down: int
    accuracy: float | None
    best_accuracy: float | None
    curve: tuple[Point, ...]
    recall: Mapping[str, float]
    on_device: Mapping[str, float]
    parts: tuple[Part, ...]
    model: str

    def time_to(self, accuracy: float) -> float | None:
        """Virtual seconds until a version tested at this accuracy; None if none did."""
        return next((p.time_s for p in self.curve if p.accuracy >= accuracy), None)

    def updates_to(self, accuracy: float) -> int | None:
        """Updates in the first version that tested at this accuracy; None if none did."""
        return next((p.updates for p in self.curve if p.accuracy >= accuracy), None)

    def as_json(self) -> bytes:
        """The whole of it, for machines."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


def summarize(settings: SimulationSettings, images: ImageSet, story: Story) -> Summary:
    """Sum a simulation up."""
    course, cast = story.course, story.cast
    curve = tuple(points(story.rows))
    made = [row for row in story.rows if row["kind"] == "version"]
    tested = [row for row in story.rows if row["kind"] == "evaluation"]
    updates = Counter(device for row in made for device in row["devices"])
    own = _own_accuracies(story.rows)
    accuracies = [point.accuracy for point in curve]
    reached = settings.target is not None and max(accuracies, default=0.0) >= settings.target
    return Summary(
        source=images.source,
        generated=images.generated,
        settings=settings.model_dump(
            mode="json", exclude={"reporting", "output", "data", "log_level", "log_format"}
        ),
        ending="versions" if course.ended else "target" if reached else "time",
        virtual_s=round(course.seconds, 3),
        wall_s=round(story.wall_s, 1),
        versions=len(course.history),
        updates=sum(updates.values()),
        refused=dict(sorted(course.refused.items())),
        crashes=story.crashes,
        bytes_up=story.traffic[0],
        bytes_down=story.traffic[1],
        accuracy=accuracies[-1] if accuracies else None,
        best_accuracy=max(accuracies, default=None),
        curve=curve,
        recall=tested[-1].get("recall", {}) if tested else {},
        on_device=made[-1].get("on_device", {}) if made else {},
        parts=tuple(
            Part(
                name,
                share.train,
                tuple(labels.tolist()),
                round(float(slow), 4),
                updates[name],
                own.get(name),
            )
            for name, share, labels, slow in zip(
                cast.names, cast.shares, cast.labels, cast.slowness, strict=True
            )
        ),
        model=hashlib.blake2b(course.model.tobytes(), digest_size=16).hexdigest(),
    )


def in_one_time(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any]]:
    """The rows of a run with times that never fall: a coordinator that starts anew counts anew.

    The time between its starts is not known, and left out.
    """
    before_s = last_s = 0.0
    for row in rows:
        if before_s + row["time_s"] < last_s:
            before_s = last_s
        last_s = before_s + row["time_s"]
        yield {**row, "time_s": last_s}


def points(rows: Iterable[Mapping[str, Any]]) -> Iterator[Point]:
    """The tested versions in the rows of a run, simulated or real, in the order of the tests."""
    updates, sent = 0, 0
    made: dict[int, tuple[float, int, int]] = {0: (0.0, 0, 0)}
    for row in in_one_time(rows):
        match row["kind"]:
            case "update":
                sent += row["bytes"]
            case "version":
                updates += row["updates"]
                made[row["version"]] = row["time_s"], updates, sent
            case "evaluation" if "accuracy" in row:
                time_s, taken, carried = made.get(row["version"], (row["time_s"], updates, sent))
                loss = row.get("loss")
                yield Point(row["version"], time_s, taken, carried, row["accuracy"], loss)


def _own_accuracies(rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    return {
        row["device"]: row["metrics"]["held_out_accuracy"]
        for row in rows
        if row["kind"] == "update" and "held_out_accuracy" in row["metrics"]
    }
