"""What training and testing come to: plain figures, which travel with an update."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from config.failures import ExitCode, Failure

Metrics: TypeAlias = Mapping[str, float]

# Told after each step of a task: the share that is done, 0 to 1, and the loss of the last batch.
OnStep: TypeAlias = Callable[[float, float], None]


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
class Evaluation:
    """A model tested: on how many examples, with what figures (`loss`, `accuracy`)."""

    examples: int
    metrics: Metrics
