"""What a process that trains for a simulation holds: one model, all images, and who has which.

The images lie in files that all processes of a machine map into their memory, so hundreds of
devices and several processes share one copy.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from experiments.sharing import end_with_parent
from experiments.simulation.assignment import Trained
from experiments.simulation.training import Workbench
from federation.compression import Vector
from learning.batches import image_tensor
from learning.chunks import Chunk, Labels
from learning.cifar10 import TensorChunk
from learning.outcomes import Evaluation
from learning.runtime import prepare_torch
from learning.vectors import ModelMismatchError

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Share:
    """Where a device's images lie among all: those to train on, and then those held out."""

    start: int
    train: int
    held_out: int


@dataclass(frozen=True, slots=True)
class Holdings:
    """All images uint8[n, 32, 32, 3] with labels int64[n], who has which, and the plan."""

    images: npt.NDArray[np.uint8]
    labels: Labels
    test_images: npt.NDArray[np.uint8]
    test_labels: Labels
    shares: tuple[Share, ...]
    plan: TrainingPlan


@dataclass(frozen=True, slots=True)
class World:
    """Holdings in a directory, which every process of this machine can load."""

    folder: Path
    shares: tuple[Share, ...]
    plan: TrainingPlan

    def load(self) -> Holdings:
        """The holdings; the images stay on disk until they are used."""
        images, labels, test_images, test_labels = (
            np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS
        )
        return Holdings(images, labels, test_images, test_labels, self.shares, self.plan)


def lay_out(
    folder: Path, chunks: Iterable[Chunk], total: int, tests: Chunk, plan: TrainingPlan
) -> World:
    """Write the images where processes find them, in the order in which torch takes them.

    Args:
        chunks: what each device has.
        total: images of all of them together.
        tests: its held-out part is what versions are tested on.

    Raises:
        OSError: there is no room for them.
    """
    # A map into a file that the disk has no room for would end the process without a word.
    if shutil.disk_usage(folder).free < total * 32 * 32 * 3 * 1.1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    images = np.lib.format.open_memmap(
        folder / "images.npy", mode="w+", dtype=np.uint8, shape=(total, 32, 32, 3)
    )
    labels = np.empty(total, np.int64)
    shares, start = [], 0
    for chunk in chunks:
        share = Share(start, len(chunk.train_labels), len(chunk.held_out_labels))
        for part, part_labels in (
            (chunk.train_images, chunk.train_labels),
            (chunk.held_out_images, chunk.held_out_labels),
        ):
            end = start + len(part_labels)
            images[start:end] = part.transpose(0, 2, 3, 1)
            labels[start:end] = part_labels
            start = end
        shares.append(share)
    images.flush()
    np.save(folder / "labels.npy", labels)
    np.save(folder / "test_images.npy", image_tensor(tests.held_out_images).numpy())
    np.save(folder / "test_labels.npy", tests.held_out_labels)
    return World(folder, tuple(shares), plan)


class Bench:
    """Where jobs are done: one after the other, on one model."""

    def __init__(self, holdings: Holdings) -> None:
        self.holdings = holdings
        self.workbench = Workbench(holdings.plan)

    def device(self, index: int) -> TensorChunk:
        """What this device has."""
        share, every = self.holdings.shares[index], self.holdings
        middle = share.start + share.train
        end = middle + share.held_out
        train, held_out = slice(share.start, middle), slice(middle, end)
        return TensorChunk.sharing(
            (every.images[train], every.labels[train]),
            (every.images[held_out], every.labels[held_out]),
        )

    def everything(self) -> TensorChunk:
        """What all devices train on, in one place, with nothing held out."""
        every = self.holdings
        spans = [slice(share.start, share.start + share.train) for share in every.shares]
        images = np.concatenate([every.images[span] for span in spans])
        labels = np.concatenate([every.labels[span] for span in spans])
        return TensorChunk.sharing((images, labels), (images[:0], labels[:0]))

    def tests(self) -> TensorChunk:
        """The test images, as a held-out part."""
        images, labels = self.holdings.test_images, self.holdings.test_labels
        return TensorChunk.sharing((images[:0], labels[:0]), (images, labels))


class Job(Protocol[R_co]):
    """Something to be done at a bench, in any process; it travels there and its result back."""

    def do(self, bench: Bench) -> R_co:
        """Do it; the same job gives the same result."""
        ...


@dataclass(frozen=True, slots=True)
class Train:
    """A device tests the received model, Float32[d], on its held-out part, and trains it.

    Attributes:
        steps: most steps that it makes; None is a whole training.
    """

    device: int
    received: Vector
    plan: TrainingPlan
    seed: int
    steps: int | None = None

    def do(self, bench: Bench) -> Trained:
        """What a device's worker does."""
        data, workbench = bench.device(self.device), bench.workbench
        try:
            tested = workbench.test(self.received, data)
            trained = workbench.train(self.received, data, self.plan, self.seed, self.steps)
        except (Failure, ModelMismatchError) as error:
            # Its text alone finds its way back from another process.
            raise Failure(ExitCode.FAILURE, str(error)) from None
        held_out = {f"held_out_{name}": value for name, value in tested.metrics.items()}
        norm = float(np.linalg.norm(trained.delta))
        metrics = {**trained.metrics, **held_out, "delta_norm": norm}
        return replace(trained, metrics=metrics)


@dataclass(frozen=True, slots=True)
class Evaluate:
    """A version of the model, Float32[d], on the test images, of classes with these names."""

    model: Vector
    class_names: tuple[str, ...] = ()

    def do(self, bench: Bench) -> Evaluation:
        """What the coordinator's worker does."""
        try:
            tests = replace(bench.tests(), class_names=self.class_names)
            return bench.workbench.test(self.model, tests)
        except ModelMismatchError as error:
            raise Failure(ExitCode.FAILURE, str(error)) from None


class _Process:
    """What a process of an engine has."""

    bench: ClassVar[Bench]


def begin(world: World | Holdings) -> None:
    """Make this process one that does jobs."""
    prepare_torch(1)
    end_with_parent()
    _Process.bench = Bench(world if isinstance(world, Holdings) else world.load())


def do(job: Job[R]) -> R:
    """Do a job in a process that has begun."""
    return job.do(_Process.bench)


_ARRAYS = ("images", "labels", "test_images", "test_labels")
