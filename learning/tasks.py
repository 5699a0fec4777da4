"""A task is what a federation learns: a model, how a chunk is loaded, trained on and tested.

The built-in one is `cifar10`. Another one is named `module:factory`; the factory takes nothing
and returns a `Task`, and the module must be importable by the coordinator and by every device.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, Protocol, TypeVar

from torch import nn

from config.failures import ExitCode, Failure, first_line
from config.sections import TrainingPlan
from learning.checkpoint import Checkpoint
from learning.outcomes import Evaluation, MayGoOn, OnStep, Training, always

Data = TypeVar("Data")


class Task(Protocol[Data]):
    """What users replace; `Data` is whatever `load` gives, only the task looks into it."""

    def build_model(self, plan: TrainingPlan) -> nn.Module:
        """A fresh model with float32 tensors only; the same plan gives the same weights."""
        ...

    def load(self, path: Path) -> Data:
        """Read a chunk; raise `config.failures.Failure` where it is missing or broken."""
        ...

    def is_generated(self, data: Data) -> bool:
        """Whether the data are made up, so that no figure of them is taken for a real one."""
        ...

    def train(
        self,
        model: nn.Module,
        data: Data,
        plan: TrainingPlan,
        *,
        seed: int,
        on_step: OnStep,
        checkpoint: Checkpoint,
        may_go_on: MayGoOn = always,
    ) -> Training:
        """Train the model in place; raise `outcomes.DivergenceError`, do not spoil it.

        A task that saves to the checkpoint on the way goes on there after a power cut; one that
        leaves it alone begins anew. `may_go_on` is handed over only where the plan has a budget of
        time: it is to be asked after each step, and the training ends where it says no.
        """
        ...

    def evaluate(self, model: nn.Module, data: Data, *, on_step: OnStep) -> Evaluation:
        """Test the model on the held-out part of the data, which may be empty."""
        ...


def resolve(name: str) -> Task[Any]:
    """The task of this name: `cifar10`, or one made by `module:factory`.

    Raises:
        Failure: there is no such task, or its module or factory does not work.
    """
    module_name, _, factory_name = BUILT_IN.get(name, name).partition(":")
    if not factory_name:
        known = ", ".join(BUILT_IN)
        raise _fault(name, f"known are {known}; others are named module:factory")
    try:
        made = getattr(importlib.import_module(module_name), factory_name)()
    except Exception as error:  # whatever a user's module raises
        line = first_line(error)
        raise _fault(name, f"{type(error).__name__}: {line}") from error
    missing = [part for part in _PARTS if not callable(getattr(made, part, None))]
    if missing:
        raise _fault(name, f"its factory made a {type(made).__name__} without {missing[0]}()")
    task: Task[Any] = made
    return task


def _fault(name: str, reason: str) -> Failure:
    return Failure(ExitCode.CONFIG, f"no task {name!r}: {reason}")


BUILT_IN = {"cifar10": "learning.cifar10:Cifar10"}
_PARTS = ("build_model", "load", "is_generated", "train", "evaluate")
