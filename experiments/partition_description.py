"""What a partition is, as `partition.json`, its table and its picture tell it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DevicePart:
    """One device's chunk: its file and how many examples it holds; `labels` counts both parts.

    `noise` is the standard deviation of what was added to its images, 1 being full brightness.
    """

    file: str
    train: int
    held_out: int
    labels: tuple[int, ...]
    noise: float

    @property
    def name(self) -> str:
        """The file's, without its ending."""
        return Path(self.file).stem


@dataclass(frozen=True, slots=True)
class PartitionDescription:
    """What is in a directory of chunks: `rule` has what decided it, `cut` the same in words."""

    source: str
    generated: bool
    seed: int
    cut: str
    rule: Mapping[str, str | float | bool]
    class_names: tuple[str, ...]
    devices: tuple[DevicePart, ...]
    test_file: str
    test_examples: int


def table(made: PartitionDescription, most: int = 20) -> str:
    """Labels by devices, for people; of many devices only the first ones."""
    noisy = any(part.noise for part in made.devices)
    first = max([len(part.name) for part in made.devices] + [6])
    heads = [f"{name[:6]:>6}" for name in made.class_names]
    lines = [" ".join([" " * first, *heads, " train  held-out"]) + ("  noise" if noisy else "")]
    for part in made.devices[:most]:
        cells = (f"{count:6d}" for count in part.labels)
        line = " ".join([f"{part.name:<{first}}", *cells, f"{part.train:6d} {part.held_out:9d}"])
        lines.append(line + (f" {part.noise:6.3f}" if noisy else ""))
    if len(made.devices) > most:
        lines.append(f"... and {len(made.devices) - most} more devices")
    note = " GENERATED, NOT REAL," if made.generated else ""
    lines.append(f"{made.source},{note} cut {made.cut}; {made.test_examples} test images")
    return "\n".join(lines)
