"""From a row of the story to named curves: what every sink draws, whatever it draws with. Pure.

By version: `global/*` of the model, `recall/*` by class, `on_device/*` as devices find it, and two
histograms: `global/staleness` of the updates in a version; `global/contributions`, how often each
device has contributed so far. By device, over the version that it worked on: `device/<id>/*`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]

MOST_BINS = 64
# Keys of an evaluation that are no figures of the model as a whole.
_APART = frozenset({"kind", "version", "time_s", "classes", "recall", "confusion", "samples"})
_OF_UPDATE = ("staleness", "examples", "steps", "train_s", "bytes", "norm")
_OF_VERSION = ("updates", "clipped", "left_out", "bytes_up")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values lie between one edge and the next; one edge more than counts."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """What a row shows: values by the names of curves, at a version and a time."""

    version: int
    time_s: float
    scalars: dict[str, float]
    histograms: dict[str, Histogram] = field(default_factory=dict)


class Curves:
    """Turns the rows of a run into what is shown, in order."""

    def __init__(self) -> None:
        self._newest = 0
        self._best: float | None = None
        self._contributions: Counter[str] = Counter()

    def take(self, row: Row) -> Shown | None:
        """What a row shows, if anything."""
        match row["kind"]:
            case "evaluation":
                return self._evaluation(row)
            case "version":
                return self._version(row)
            case "update":
                return _shown(row, row["base_version"], _of_update(row))
            case "refusal":
                # At the newest version: what was refused may have told any.
                name = f"device/{row['device']}/refused"
                return _shown(row, self._newest, {name: 1.0})
            case "quarantine":
                name = f"device/{row['device']}/quarantined"
                return _shown(row, row["version"], {name: float(row["quarantined"])})
        return None

    def _evaluation(self, row: Row) -> Shown:
        values = {f"global/{name}": v for name, v in row.items() if name not in _APART}
        if (accuracy := figure(row.get("accuracy"))) is not None:
            self._best = accuracy if self._best is None else max(self._best, accuracy)
            values["global/best_accuracy"] = self._best
        recall: Mapping[str, float] = row.get("recall", {})
        if recall:
            values["global/worst_recall"] = min(recall.values())
        values |= {f"recall/{name}": value for name, value in recall.items()}
        return _shown(row, row["version"], values)

    def _version(self, row: Row) -> Shown:
        staleness = row["staleness"]
        self._newest = row["version"]
        self._contributions.update(row.get("devices", ()))
        values = {f"global/{name}": row[name] for name in _OF_VERSION if name in row}
        values["global/mean_staleness"] = sum(staleness) / max(1, len(staleness))
        values |= {f"on_device/{name}": v for name, v in row.get("on_device", {}).items()}
        histograms = {
            "global/staleness": histogram(staleness),
            "global/contributions": histogram(self._contributions.values()),
        }
        told = {name: made for name, made in histograms.items() if made is not None}
        return Shown(row["version"], row["time_s"], values, told)


def figure(value: Any) -> float | None:
    """A figure that a curve can be drawn of, or None."""
    return value if isinstance(value, (int, float)) and isfinite(value) else None


def histogram(values: Iterable[int]) -> Histogram | None:
    """A histogram of numbers from 0 on, with a bin for each or for as many as it takes."""
    counted = Counter(values)
    if not counted:
        return None
    width = max(counted) // MOST_BINS + 1
    bins = [0] * (max(counted) // width + 1)
    for value, times in counted.items():
        bins[value // width] += times
    edges = tuple(n * width - 0.5 for n in range(len(bins) + 1))
    return Histogram(edges, tuple(bins))


def _of_update(row: Row) -> dict[str, float]:
    device = f"device/{row['device']}"
    return {
        **{f"{device}/{name}": row[name] for name in _OF_UPDATE},
        **{f"{device}/{name}": value for name, value in row["metrics"].items()},
    }


def _shown(row: Row, version: int, values: Mapping[str, Any]) -> Shown:
    numbers = {name: v for name, v in values.items() if figure(v) is not None}
    return Shown(version, row["time_s"], numbers)
