"""A task whose training takes as long as its device is told to, and gives what is known beforehand.

A federation names it `tests.timed_task:TimedTask`. Nothing is learned; but what comes of a training
follows from the received model, the seed and the device, so whoever mixes up one of them is found
out. The chunk is JSON: `device`, `train_s`, `examples` and `together`, how many devices begin their
first training at the same time: starting a worker takes each as long as the machine likes.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from torch import nn

from config.sections import TrainingPlan
from federation.compression import Vector
from learning.checkpoint import Checkpoint
from learning.outcomes import Evaluation, MayGoOn, OnStep, Training, always
from learning.vectors import load_vector, vector_of

PATIENCE_S = 120.0


@dataclass(frozen=True, slots=True)
class TimedDevice:
    """What a chunk says, and where it lies."""

    device: str
    train_s: float
    examples: int
    together: int
    folder: Path


def a_timed_chunk(
    folder: Path, device: str, *, train_s: float, examples: int, together: int
) -> Path:
    """The chunk of a device."""
    path = folder / f"{device}.json"
    about = {"device": device, "train_s": train_s, "examples": examples, "together": together}
    path.write_text(json.dumps(about))
    return path


def trained_model(received: Vector, seed: int, device: str) -> Vector:
    """What becomes of a model, Float32[d]: half of the way to where its device wants it."""
    chance = np.random.default_rng([seed, crc32(device.encode())])
    goal = chance.standard_normal(received.size, dtype=np.float32)
    halfway: Vector = received + (goal - received) / np.float32(2)
    return halfway


class TimedTask:
    """See above."""

    def build_model(self, plan: TrainingPlan) -> nn.Module:
        """A few hundred numbers, decided by the seed."""
        torch.manual_seed(plan.seed)
        return nn.Linear(20, 30)

    def load(self, path: Path) -> TimedDevice:
        """Read what `a_timed_chunk` wrote."""
        return TimedDevice(**json.loads(path.read_text()), folder=path.parent)

    def is_generated(self, data: TimedDevice) -> bool:
        """Nothing of this is real."""
        return True

    def train(
        self,
        model: nn.Module,
        data: TimedDevice,
        plan: TrainingPlan,
        *,
        seed: int,
        on_step: OnStep,
        checkpoint: Checkpoint,
        may_go_on: MayGoOn = always,
    ) -> Training:
        """Take the time, and make of the model what is known beforehand."""
        _wait_for_all(data)
        time.sleep(data.train_s)
        load_vector(model, trained_model(vector_of(model), seed, data.device))
        return Training(data.examples, steps=1, metrics={})

    def evaluate(self, model: nn.Module, data: TimedDevice, *, on_step: OnStep) -> Evaluation:
        """Nothing is held out."""
        return Evaluation(examples=0, metrics={})


def _wait_for_all(data: TimedDevice) -> None:
    (data.folder / f"{data.device}.begun").touch()
    end_s = time.monotonic() + PATIENCE_S
    while len(list(data.folder.glob("*.begun"))) < data.together and time.monotonic() < end_s:
        time.sleep(0.01)
