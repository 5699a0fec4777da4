"""Finished runs as a comparison sees them: of `lab compare`, of `lab simulate`, or real ones.

What is read may have been written by others: it is checked, and nothing in it is believed to be
more than text and figures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from config.failures import ExitCode, Failure
from coordinator.on_device import WORST
from coordinator.reporting import ODD_ROW, rows_in
from experiments.compare.budget import processed
from experiments.compare.checked import read_checked
from experiments.compare.methods import DEFAULT
from experiments.simulation.output import SUMMARY
from experiments.simulation.sinks import REPORTS
from experiments.simulation.summary import Part, Point, Summary, in_one_time, points

RUN = "run.json"


class About(BaseModel):
    """What `run.json` says beside the summary; all of it may be missing."""

    model_config = ConfigDict(frozen=True)

    method: str = ""
    kind: str = "federated"
    file: str = ""
    own: dict[str, str] = {}
    passes: float | None = None
    tests: float | None = None
    training_images: int | None = None
    test_images: int | None = None
    class_names: tuple[str, ...] = ()
    software: dict[str, str] = {}
    machine: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a method.

    Attributes:
        name: of its method.
        work: passes over the training images that accepted trainings had made, at each point of
            the curve; nothing where that is not known.
        staleness: how many updates had missed how many versions.
        alone: accuracy of each device's own model on the test images.
        on_device: accuracy on the devices' held-out images: mean, worst decile.
    """

    name: str
    where: str
    about: About
    summary: Summary
    real: bool = False
    work: tuple[float, ...] = ()
    staleness: Mapping[int, int] = field(default_factory=dict)
    alone: tuple[float, ...] = ()
    on_device: Mapping[str, float] = field(default_factory=dict)

    @property
    def seed(self) -> int:
        """What decided its chance; 0 where that is not known."""
        seed = self.summary.settings.get("seed", 0)
        return seed if isinstance(seed, int) else 0


def read_runs(given: Iterable[str]) -> list[Run]:
    """The runs below the directories that are given, as DIR or NAME=DIR.

    Raises:
        Failure: there is none, or it cannot be read.
    """
    runs = []
    for text in given:
        name, equals, path = text.partition("=")
        directory = Path(path if equals else text).expanduser()
        found = list(_directories(directory))
        if not found:
            message = f"{directory} holds no run: neither {SUMMARY} nor {REPORTS} is there"
            raise Failure(ExitCode.NO_INPUT, message)
        runs += [read_run(one, name if equals else "") for one in found]
    return runs


def read_run(directory: Path, name: str = "") -> Run:
    """The run in a directory.

    Args:
        name: of the method; nothing takes the one on record, or else that of the directory.

    Raises:
        Failure: it cannot be read.
    """
    about = (
        read_checked(directory / RUN, About, "record of a run")
        if (directory / RUN).exists()
        else About()
    )
    rows = list(rows_in(directory / REPORTS))
    name = name or about.method or directory.resolve().name
    try:
        if not (directory / SUMMARY).exists():
            summary, real = _real_summary(rows), True
        else:
            summary, real = read_checked(directory / SUMMARY, Summary, "summary of a run"), False
        return Run(
            name,
            str(directory),
            about,
            summary,
            real,
            _work(rows, summary),
            _staleness(rows),
            tuple(row["accuracy"] for row in rows if row["kind"] == "alone" and "accuracy" in row),
            _on_device(summary.parts),
        )
    except ODD_ROW as error:
        message = f"{directory / REPORTS} is not the story of a run: {error!r}"
        raise Failure(ExitCode.NO_INPUT, message) from None


def _directories(directory: Path) -> Iterable[Path]:
    if any((directory / name).exists() for name in (SUMMARY, REPORTS)):
        return [directory]
    below = [*directory.glob(f"*/{SUMMARY}"), *directory.glob(f"*/*/{SUMMARY}")]
    return sorted((path.parent for path in below), key=_place)


def _place(directory: Path) -> tuple[int, Path]:
    """Known methods in the order in which a comparison has them, and then the others."""
    name = directory.parent.name
    return (DEFAULT.index(name) if name in DEFAULT else len(DEFAULT), directory)


def _work(rows: Sequence[Mapping[str, Any]], summary: Summary) -> tuple[float, ...]:
    """Passes over the training images, at each point of the curve."""
    training = summary.settings.get("training", {})
    batch_size = training.get("batch_size") if isinstance(training, Mapping) else None
    if not summary.curve or not isinstance(batch_size, int):
        return ()
    if all("passes" in row for row in rows if row["kind"] == "evaluation"):
        told = [row["passes"] for row in rows if row["kind"] == "evaluation"]
        return tuple(told) if len(told) == len(summary.curve) else ()
    spent, at_version = 0.0, {0: 0.0}
    for row in rows:
        if row["kind"] == "update":
            spent += processed(row, batch_size)
        elif row["kind"] == "version":
            at_version[row["version"]] = spent
    images = sum(part.images for part in summary.parts)
    return tuple(at_version.get(point.version, spent) / images for point in summary.curve)


def _staleness(rows: Iterable[Mapping[str, Any]]) -> dict[int, int]:
    counts = Counter(
        int(missed) for row in rows if row["kind"] == "version" for missed in row["staleness"]
    )
    return dict(sorted(counts.items()))


def _on_device(parts: Sequence[Part]) -> dict[str, float]:
    """The last accuracy that each device told, as `coordinator.on_device` sums it up."""
    known = sorted(part.accuracy for part in parts if part.accuracy is not None)
    if not known:
        return {}
    worst = known[: ceil(len(known) * WORST)]
    return {"mean": fmean(known), "worst_decile": fmean(worst)}


def _real_summary(rows: Sequence[Mapping[str, Any]]) -> Summary:
    """What the story of a real run tells; nobody but the devices knows of their images."""
    made = [row for row in rows if row["kind"] == "version"]
    tested = [row for row in rows if row["kind"] == "evaluation"]
    curve: tuple[Point, ...] = tuple(points(rows))
    updates = Counter(device for row in made for device in row["devices"])
    told = {row["device"]: row for row in rows if row["kind"] == "update"}
    seconds = {name: row["train_s"] / max(1, row["examples"]) for name, row in told.items()}
    typical = sorted(seconds.values())[len(seconds) // 2] if seconds else 1.0
    refused = Counter(str(row["reason"]) for row in rows if row["kind"] == "refusal")
    parts = tuple(
        Part(
            name,
            row["examples"],
            (),
            round(seconds[name] / typical, 4) if typical else 1.0,
            updates[name],
            row["metrics"].get("held_out_accuracy"),
        )
        for name, row in sorted(told.items())
    )
    accuracies = [point.accuracy for point in curve]
    return Summary(
        source="of the devices' own",
        generated=False,
        settings={},
        ending="",
        virtual_s=max((row["time_s"] for row in in_one_time(rows)), default=0.0),
        wall_s=0.0,
        versions=len(made),
        updates=sum(updates.values()),
        refused=dict(sorted(refused.items())),
        crashes=0,
        bytes_up=sum(row["bytes"] for row in rows if row["kind"] == "update"),
        bytes_down=0,
        accuracy=accuracies[-1] if accuracies else None,
        best_accuracy=max(accuracies, default=None),
        curve=curve,
        recall=tested[-1].get("recall", {}) if tested else {},
        on_device={},
        parts=parts,
        model="",
    )
