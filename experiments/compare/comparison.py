"""Everything that a report shows, as one value: `compare.json`, of which alone the page is made."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.compare.checked import read_checked


@dataclass(frozen=True, slots=True)
class Curve:
    """The tested versions of a run, a list a column; `passes` is empty where it is not known."""

    time_s: tuple[float, ...]
    updates: tuple[int, ...]
    bytes_up: tuple[int, ...]
    passes: tuple[float, ...]
    accuracy: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Reached:
    """When a run first tested at a target; None stands for never."""

    time_s: float | None
    updates: int | None
    bytes_up: int | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run of a method came to.

    Attributes:
        reached: for each target of the comparison.
        recall: accuracy by class, of the version tested last.
        on_device: accuracy on the devices' held-out images: mean, worst decile.
        device_updates: by device, as `Comparison.devices` has them, where they are the same.
        slowness: by device: how many times the typical time an image takes it.
        label_weight: for each class, its share in what accepted updates were trained on, divided by
            its share in all images: 1 is heard as it should be.
        staleness: how many updates had missed so many versions.
        alone: accuracy on the test images of each device's own model.
    """

    seed: int
    where: str
    ending: str
    virtual_s: float
    versions: int
    updates: int
    refused: int
    crashes: int
    bytes_up: int
    bytes_down: int
    passes: float | None
    accuracy: float | None
    best_accuracy: float | None
    curve: Curve
    reached: tuple[Reached, ...]
    recall: Mapping[str, float]
    on_device: Mapping[str, float]
    device_updates: tuple[int, ...]
    slowness: tuple[float, ...]
    label_weight: tuple[float, ...]
    staleness: Mapping[int, int]
    alone: tuple[float, ...]
    model: str


@dataclass(frozen=True, slots=True)
class Compared:
    """One method: its outcomes, a seed each."""

    name: str
    label: str
    kind: str
    tuned: str
    outcomes: tuple[Outcome, ...]


@dataclass(frozen=True, slots=True)
class Holder:
    """A device of the first seed, and what it holds."""

    name: str
    images: int
    labels: tuple[int, ...]
    slowness: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """The whole report.

    Attributes:
        targets: accuracies whose time is told; `targets_given` says whether somebody set them.
        notes: what a reader should know before believing the figures.
        facts: what it was run on, as label and text.
        given: common settings that are not the defaults, by key.
        different: settings in which federated methods differ: key, and values by method.
        cut: the partition in words.
    """

    title: str
    command: str
    generated: bool
    real: bool
    targets: tuple[float, ...]
    targets_given: bool
    methods: tuple[Compared, ...]
    class_names: tuple[str, ...]
    devices: tuple[Holder, ...]
    cut: str
    source: str
    seed: int
    passes: float | None
    tuning: str
    notes: tuple[str, ...]
    facts: tuple[tuple[str, str], ...]
    given: Mapping[str, str]
    different: Mapping[str, Mapping[str, str]]

    def as_json(self) -> bytes:
        """For machines."""
        return json.dumps(asdict(self), indent=1).encode() + b"\n"


def read_comparison(path: Path) -> Comparison:
    """What `as_json` wrote.

    Raises:
        Failure: it cannot be read, or is something else.
    """
    return read_checked(path, Comparison, "comparison")
