"""One training of a simulated device: what is to be done, what comes of it, and who does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from federation.compression import Vector
from federation.messages import Header


@dataclass(frozen=True, slots=True)
class Assignment:
    """One training to be done: on which version, from which model Float32[d], by which seed."""

    device: str
    header: Header
    received: Vector
    seed: int


@dataclass(frozen=True, slots=True)
class Trained:
    """What comes of it: the delta Float32[d], and what the device claims about it."""

    delta: Vector
    examples: int
    steps: int
    metrics: dict[str, float]


class Trial(Protocol):
    """A training under way, which costs no virtual time of its own."""

    def result(self) -> Trained:
        """Wait for what it gives.

        Raises:
            Failure, ModelMismatchError: it brings nothing.
        """
        ...

    def cancel(self) -> object:
        """Nobody wants it any more."""
        ...


# Begins a training whose result is due at this virtual time: what is due first is done first.
Begin: TypeAlias = Callable[[Assignment, float], Trial]

Work: TypeAlias = Callable[[Assignment], Trained]


def lazily(work: Work) -> Begin:
    """Train here, and not before the result is due."""
    return lambda assignment, due_s: _Lazy(work, assignment)


@dataclass(frozen=True, slots=True)
class _Lazy:
    work: Work
    assignment: Assignment

    def result(self) -> Trained:
        return self.work(self.assignment)

    def cancel(self) -> None:
        pass
