"""The built-in task: to tell ten kinds of things apart on images of 32 x 32 pixels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from learning.batches import image_tensor, label_tensor
from learning.checkpoint import Checkpoint
from learning.chunks import Chunk, Labels, read_chunk
from learning.evaluation import evaluate
from learning.models import build_model
from learning.outcomes import Evaluation, MayGoOn, OnStep, Training, always
from learning.training import train

CLASSES = 10


@dataclass(frozen=True, slots=True)
class TensorChunk:
    """A chunk as torch takes it: images uint8[n, 32, 32, 3], labels int64[n]."""

    train_images: Tensor
    train_labels: Tensor
    held_out_images: Tensor
    held_out_labels: Tensor
    generated: bool
    class_names: tuple[str, ...] = ()

    @classmethod
    def sharing(
        cls,
        train: tuple[npt.NDArray[np.uint8], Labels],
        held_out: tuple[npt.NDArray[np.uint8], Labels],
    ) -> TensorChunk:
        """Of arrays that are as torch takes them, with their memory, which must be writable."""
        images, labels = map(torch.from_numpy, train)
        held_images, held_labels = map(torch.from_numpy, held_out)
        return cls(images, labels, held_images, held_labels, generated=False)


def as_tensors(chunk: Chunk, source: str) -> TensorChunk:
    """A chunk for torch.

    Raises:
        Failure: it has more classes than the task; the message names the source.
    """
    if len(chunk.class_names) > CLASSES:
        raise Failure(
            ExitCode.CONFIG,
            f"{source}: {len(chunk.class_names)} classes; cifar10 tells {CLASSES} apart",
        )
    return TensorChunk(
        image_tensor(chunk.train_images),
        label_tensor(chunk.train_labels),
        image_tensor(chunk.held_out_images),
        label_tensor(chunk.held_out_labels),
        chunk.generated,
        chunk.class_names,
    )


class Cifar10:
    """A CNN from `learning.models` on chunks from `learning.chunks`."""

    def build_model(self, plan: TrainingPlan) -> nn.Module:
        """The model that the plan names."""
        return build_model(plan.model, classes=CLASSES, seed=plan.seed)

    def load(self, path: Path) -> TensorChunk:
        """Read and check a chunk file."""
        return as_tensors(read_chunk(path), str(path))

    def is_generated(self, data: TensorChunk) -> bool:
        """As the chunk's maker said."""
        return data.generated

    def train(
        self,
        model: nn.Module,
        data: TensorChunk,
        plan: TrainingPlan,
        *,
        seed: int,
        on_step: OnStep,
        checkpoint: Checkpoint,
        may_go_on: MayGoOn = always,
    ) -> Training:
        """Train on the chunk's training part."""
        return train(
            model,
            data.train_images,
            data.train_labels,
            plan,
            seed=seed,
            on_step=on_step,
            checkpoint=checkpoint,
            may_go_on=may_go_on,
        )

    def evaluate(self, model: nn.Module, data: TensorChunk, *, on_step: OnStep) -> Evaluation:
        """Test on the chunk's held-out part."""
        return evaluate(
            model,
            data.held_out_images,
            data.held_out_labels,
            on_step=on_step,
            class_names=data.class_names,
        )
