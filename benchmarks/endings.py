"""How a run that was tested again and again went, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import Any

# What one test says of accuracy jumps by a point or so: the last ones together say how a run ended.
LAST_TESTS = 5


def end_of(accuracies: Sequence[float]) -> float:
    """The mean of the last tests."""
    return mean(accuracies[-LAST_TESTS:])


def course_of(accuracies: Sequence[float]) -> dict[str, Any]:
    """The best test, and all of them in short: fields of a row."""
    return {"best": max(accuracies), "curve": [round(accuracy, 4) for accuracy in accuracies]}
