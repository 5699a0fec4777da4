"""Equal work for all methods: so many passes over the training images, in accepted updates.

A method ends with the first test at which its work is done. How often it is tested follows from
its work, too: a method that makes a version of each update is not tested more often than one that
makes few. Rounds of a whole fleet can be tested once a pass at most: who is tested more often comes
to a target sooner by some luck.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from config.sections import TrainingPlan
from config.simulation import SimulationSettings

# A test that fails tells nothing: the work is over all the same, a little later.
_SLACK = 1.5


def processed(row: Mapping[str, Any], batch_size: int) -> float:
    """Images that went through the training that this `update` row tells of."""
    examples, steps = int(row["examples"]), int(row["steps"])
    batches = ceil(examples / batch_size)
    return steps * examples / batches if batches else 0.0


class Budget:
    """Counts the work in the rows of a run."""

    def __init__(self, images: float, plan: TrainingPlan) -> None:
        """Begin.

        Args:
            images: the budget, passes times training images.
            plan: cuts them into batches.
        """
        self._images = images
        self._batch_size = plan.batch_size
        self._spent_at: dict[int, float] = {}
        self.spent = 0.0
        self.is_over = False

    def take(self, row: Mapping[str, Any]) -> None:
        """One more row."""
        match row["kind"]:
            case "update":
                self.spent += processed(row, self._batch_size)
            case "version":
                self._spent_at[row["version"]] = self.spent
                self.is_over = self.is_over or self.spent >= _SLACK * self._images
            case "evaluation":
                # What came in during the test is not in the version. The sums are of whole numbers,
                # but for rounding.
                spent = self._spent_at.get(row["version"], 0.0)
                self.is_over = self.is_over or spent >= 0.999 * self._images


def evaluate_every(settings: SimulationSettings, tests: float) -> int:
    """Which versions to test, so that there are about so many tests in a pass over the images."""
    rule, devices, epochs = settings.aggregation, settings.devices, settings.training.epochs
    match rule.trigger:
        case "rounds":
            updates = max(1.0, rule.fraction * devices / rule.over_selection)
        case "buffer":
            updates = min(rule.buffer_size, devices)
        case "immediate":
            updates = 1
    versions_a_pass = devices / (updates * epochs)
    return max(1, round(versions_a_pass / tests))
