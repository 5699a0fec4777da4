"""What training and testing come to: plain figures, which travel with an update or a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from config.failures import ExitCode, Failure

MOST_CLASSES = 100
MOST_SAMPLES = 32

Metrics: TypeAlias = Mapping[str, float]

# Told after each step of a task: the share that is done, 0 to 1, and the loss of the last batch.
OnStep: TypeAlias = Callable[[float, float], None]

# Asked after each step of a training, with how many are done: whether to make another one.
MayGoOn: TypeAlias = Callable[[int], bool]


def always(steps: int) -> bool:
    """Train to the end."""
    return True


class DivergenceError(Failure):
    """Training left the finite numbers: there is no update to send."""

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.FAILURE, f"training diverged: {message}")


@dataclass(frozen=True, slots=True)
class Training:
    """A training that ended well: distinct examples seen, steps made, and figures by name."""

    examples: int
    steps: int
    metrics: Metrics


@dataclass(frozen=True, slots=True)
class Samples:
    """A few examples of a test: which, what they are, what they were taken for, how surely.

    All are of one length: indices into what was tested, indices of classes, and from 0 to 1.
    """

    index: tuple[int, ...] = ()
    truth: tuple[int, ...] = ()
    guess: tuple[int, ...] = ()
    confidence: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model tested: on how many examples, with what figures (`loss`, `accuracy`).

    A task that tells no classes apart leaves out all that follows.

    Attributes:
        classes: their names, in the order of `confusion`.
        confusion: int[c][c], how many examples of a class (row) were taken for which (column).
        samples: a few of the examples.
    """

    examples: int
    metrics: Metrics
    classes: tuple[str, ...] = ()
    confusion: tuple[tuple[int, ...], ...] = ()
    samples: Samples = Samples()

    def __post_init__(self) -> None:
        """See that it can be shown.

        Raises:
            ValueError: names, matrix and samples do not go together.
        """
        count = len(self.classes)
        if self.confusion and [len(row) for row in self.confusion] != [count] * count:
            raise ValueError(f"an evaluation with {count} classes has a matrix of another size")
        samples = self.samples
        parts = (samples.index, samples.truth, samples.guess, samples.confidence)
        if len({len(part) for part in parts}) != 1:
            raise ValueError("the samples of an evaluation have columns of different lengths")
        if not all(0 <= named < count for named in (*samples.truth, *samples.guess)):
            raise ValueError(f"an evaluation with {count} classes has samples of others")


def findings(evaluation: Evaluation) -> dict[str, Any]:
    """What a test showed beyond its figures, as JSON; what there is of it.

    `recall` has the share of right answers for each class that was tested. Of many classes there is
    no matrix, and of samples only the first: a row of a report stays small.
    """
    found: dict[str, Any] = {"examples": evaluation.examples}
    names, matrix, samples = evaluation.classes, evaluation.confusion, evaluation.samples
    if matrix:
        found["recall"] = {
            name: round(row[n] / sum(row), 6)
            for n, (name, row) in enumerate(zip(names, matrix, strict=True))
            if sum(row)
        }
    if names and len(names) <= MOST_CLASSES:
        found["classes"] = list(names)
        if matrix:
            found["confusion"] = [list(row) for row in matrix]
        if samples.index:
            found["samples"] = {
                "index": list(samples.index[:MOST_SAMPLES]),
                "truth": list(samples.truth[:MOST_SAMPLES]),
                "guess": list(samples.guess[:MOST_SAMPLES]),
                "confidence": [round(sure, 4) for sure in samples.confidence[:MOST_SAMPLES]],
            }
    return found
