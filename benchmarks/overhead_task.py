"""A task whose training takes no time: what is left of a round is what the federation costs.

All else is as with any task: a worker process, a chunk that is read, a model that is built, filled
and read out again, an update that is encoded and delivered. A federation names the task
`benchmarks.overhead_task:StillTask`, and the plan's `model` says how many elements the model has.
The training adds one number to each of them, which the chunk has and which is another one on each
device, so whether all did their part is seen of the model that comes out, and no update is like
another, which some peers would send only once. The peers' clients do the same.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from learning.checkpoint import Checkpoint
from learning.outcomes import Evaluation, MayGoOn, OnStep, Training, always

TASK = f"{__name__}:StillTask"
STEP = 2.0**-10
TENSORS = 8
EXAMPLES = 100
PIECE = 2**20


def beginning(elements: int) -> list[npt.NDArray[np.float32]]:
    """The tensors of the first model, of the same size but for the last, the same everywhere.

    Nobody could compress them: what repeats is further away than compressors look back.
    """
    piece = np.random.default_rng(0).random(min(elements, PIECE), dtype=np.float32)
    each = elements // TENSORS
    return np.split(np.resize(piece, elements), range(each, TENSORS * each, each))


def step_of(client: int, clients: int) -> float:
    """What this client adds; `STEP` in the mean."""
    return STEP * 2 * (client + 1) / (clients + 1)


class StillModel(nn.Module):
    """Nothing but its tensors."""

    def __init__(self, elements: int) -> None:
        super().__init__()
        self.parts = nn.ParameterList(map(torch.from_numpy, beginning(elements)))


class StillTask:
    """See above."""

    def build_model(self, plan: TrainingPlan) -> nn.Module:
        """As many elements as the plan's model says."""
        return StillModel(int(plan.model))

    def load(self, path: Path) -> float:
        """The number in the file."""
        try:
            return float(path.read_text())
        except (OSError, ValueError) as error:
            raise Failure(ExitCode.NO_INPUT, f"chunk {path}: {error}") from None

    def is_generated(self, data: float) -> bool:
        """Nothing of this is real."""
        return True

    def train(
        self,
        model: nn.Module,
        data: float,
        plan: TrainingPlan,
        *,
        seed: int,
        on_step: OnStep,
        checkpoint: Checkpoint,
        may_go_on: MayGoOn = always,
    ) -> Training:
        """One step."""
        with torch.no_grad():
            for tensor in model.parameters():
                tensor.add_(data)
        on_step(1.0, 0.0)
        return Training(EXAMPLES, steps=1, metrics={})

    def evaluate(self, model: nn.Module, data: float, *, on_step: OnStep) -> Evaluation:
        """Nothing is held out."""
        return Evaluation(examples=0, metrics={})
