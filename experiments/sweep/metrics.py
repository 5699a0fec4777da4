"""What a sweep is after: a curve, by the name that W&B is shown, or a figure of the whole run."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from config.catalogue import nearest, printable

# Of a whole run, where a target is set; curves are all the others.
AT_TARGET = ("time_to_target", "updates_to_target", "bytes_to_target")
WHOLE = (*AT_TARGET, "virtual_s")
CURVES = (
    *("global/accuracy", "global/loss", "global/best_accuracy", "global/worst_recall"),
    *("global/mean_staleness", "global/bytes_up"),
    *("on_device/accuracy_mean", "on_device/accuracy_worst_decile"),
)
_FAMILIES = ("recall/", "device/")


@dataclass(frozen=True, slots=True)
class Metric:
    """The figure by which points are told apart; `target` is good enough to begin no further."""

    name: str
    maximize: bool
    target: float | None = None

    @property
    def is_curve(self) -> bool:
        """Whether it has a value at each version, or one for the whole run."""
        return self.name not in WHOLE

    def best(self, values: Iterable[float]) -> float | None:
        """The best of the values; None if there are none."""
        finite = [value for value in values if math.isfinite(value)]
        return (max if self.maximize else min)(finite, default=None)

    def losses(self, values: Sequence[float]) -> list[float]:
        """The values so that less is better."""
        return [-value if self.maximize else value for value in values]

    def is_reached(self, value: float | None) -> bool:
        """Whether a value is as good as the target."""
        if self.target is None or value is None:
            return False
        return value >= self.target if self.maximize else value <= self.target


DEFAULT_METRIC = Metric("global/accuracy", maximize=True)


def read_metric(told: Any, faults: list[str]) -> Metric | None:
    """What a definition says of its metric; None if it says nothing, or has faults."""
    if told is None:
        return None
    if not isinstance(told, dict) or not isinstance(told.get("name"), str):
        faults.append("metric must have a name, such as {name: global/accuracy, goal: maximize}")
        return None
    before = len(faults)
    name, goal, target = told["name"], told.get("goal", "minimize"), told.get("target")
    known = (*CURVES, *WHOLE)
    if name not in known and not name.startswith(_FAMILIES):
        faults.append(
            f"metric.name {printable(name)} is none that a simulation has{nearest(name, known)}"
        )
    if goal not in ("minimize", "maximize"):
        faults.append(f"metric.goal is {printable(repr(goal))}, but must be minimize or maximize")
    if target is not None and (isinstance(target, bool) or not isinstance(target, int | float)):
        faults.append(f"metric.target is {printable(repr(target))}, but must be a number")
    keys = ("name", "goal", "target", "impute", "impute_while_running")
    faults += [
        f"metric has an unknown key {printable(str(key))}{nearest(str(key), keys)}"
        for key in told
        if key not in keys
    ]
    return Metric(name, goal == "maximize", target) if len(faults) == before else None
