"""Figures over several seeds: their median, and between what they lie."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np

from experiments.compare.comparison import Compared, Outcome

# More points than an eye can tell apart only make a page large.
MOST_POINTS = 200


@dataclass(frozen=True, slots=True)
class Spread:
    """Of so many figures: how many there were, their median, least and greatest.

    A figure that is missing, such as the time to a target that was not reached, counts as beyond
    all others; the median itself may so be missing, as None.
    """

    there: int
    of: int
    median: float | None
    low: float | None
    high: float | None

    def between(self, word: Callable[[float], str]) -> str:
        """Between what they lie, in words; empty where they are alike."""
        if self.low is None or self.high is None or self.of == 1:
            return ""
        low, high = word(self.low), word(self.high)
        if self.there < self.of:
            return f"{self.there} of {self.of} seeds from {low}"
        if low == high:
            return ""
        # A unit that both have need not be told twice.
        number, _, unit = low.partition(" ")
        shared = unit and high.endswith(f" {unit}") and " " not in unit
        return f"{number if shared else low} to {high}"


def spread(figures: Iterable[float | None]) -> Spread:
    """What the figures come to."""
    every = list(figures)
    there = sorted(figure for figure in every if figure is not None)
    if not there:
        return Spread(0, len(every), None, None, None)
    middle = median([*there, *[float("inf")] * (len(every) - len(there))])
    known = middle if middle != float("inf") else None
    return Spread(len(there), len(every), known, there[0], there[-1])


def over_seeds(method: Compared, figure: Callable[[Outcome], float | None]) -> Spread:
    """A figure of a method."""
    return spread(figure(outcome) for outcome in method.outcomes)


def worst_class(outcome: Outcome) -> tuple[str, float] | None:
    """The class that is known worst, and how well."""
    if not outcome.recall:
        return None
    name = min(outcome.recall, key=lambda one: outcome.recall[one])
    return name, outcome.recall[name]


def middle_curve(
    curves: Sequence[tuple[Sequence[float], Sequence[float]]],
) -> tuple[list[float], list[float], list[float], list[float]]:
    """Several curves as one: x, and of y the median, least and greatest.

    Between two points a curve is straight. x is where any of them has a point, from where all have
    begun to where the first one ends; of very many points only some.
    """
    full = [(list(x), list(y)) for x, y in curves if x]
    if not full:
        return [], [], [], []
    if len(full) == 1:
        x, y = full[0]
        y = _thinned(y)
        return _thinned(x), y, y, y
    begin, end = max(x[0] for x, _ in full), min(x[-1] for x, _ in full)
    every = _thinned(sorted({at for x, _ in full for at in x if begin <= at <= end}))
    levels = np.array([np.interp(every, x, y) for x, y in full])
    middle, low, high = np.median(levels, axis=0), levels.min(axis=0), levels.max(axis=0)
    return every, middle.tolist(), low.tolist(), high.tolist()


def _thinned(values: Sequence[float]) -> list[float]:
    count = min(len(values), MOST_POINTS)
    return [values[(index + 1) * len(values) // count - 1] for index in range(count)]
