"""Where images come from: torchvision's CIFAR-10, a folder of image files, or generated ones."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from config.failures import ExitCode, Failure, first_line
from learning.chunks import Chunk, Images, Labels


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Labelled images, uint8[n, 3, 32, 32] and int64[n], as they come, before any partition."""

    train_images: Images
    train_labels: Labels
    test_images: Images
    test_labels: Labels
    class_names: tuple[str, ...]
    source: str
    generated: bool


def as_chunk(images: ImageSet) -> Chunk:
    """All training images to train on, and all test images held out."""
    return Chunk(
        images.train_images,
        images.train_labels,
        images.test_images,
        images.test_labels,
        images.class_names,
        images.generated,
    )


def device_chunk(images: ImageSet, train: Labels, held_out: Labels) -> Chunk:
    """What one device gets: the training images of these indices, int64[k] each."""
    return Chunk(
        images.train_images[train],
        images.train_labels[train],
        images.train_images[held_out],
        images.train_labels[held_out],
        images.class_names,
        images.generated,
    )


def evaluation_chunk(images: ImageSet) -> Chunk:
    """What the coordinator gets: the test images as a held-out part, and nothing to train on."""
    chunk = as_chunk(images)
    return replace(chunk, train_images=chunk.train_images[:0], train_labels=chunk.train_labels[:0])


def limited(images: ImageSet, *, train: int | None, test: int | None, seed: int) -> ImageSet:
    """At most so many training and test images, picked at random; None takes all of them."""
    chance = np.random.default_rng([seed, 3])
    keep_train = _picks(len(images.train_labels), train, chance)
    keep_test = _picks(len(images.test_labels), test, chance)
    return replace(
        images,
        train_images=images.train_images[keep_train],
        train_labels=images.train_labels[keep_train],
        test_images=images.test_images[keep_test],
        test_labels=images.test_labels[keep_test],
    )


def downloaded_images(cache: Path | None = None) -> ImageSet:
    """CIFAR-10, downloaded and checked by torchvision, kept in the cache directory.

    Raises:
        Failure: torchvision is missing, or the images could not be had.
    """
    directory = cache or default_cache()
    try:
        # Devices have no torchvision: only this function needs it.
        from torchvision.datasets import CIFAR10  # type: ignore[import-untyped]  # noqa: PLC0415
    except ImportError:
        raise Failure(
            ExitCode.NO_INPUT,
            "CIFAR-10 is downloaded by torchvision, which is not installed;"
            " install it or give a folder of images with --data",
        ) from None
    try:
        # What torchvision has to say is for people; stdout may be for a program.
        with redirect_stdout(sys.stderr):
            train = CIFAR10(str(directory), train=True, download=True)
            test = CIFAR10(str(directory), train=False, download=True)
    except (OSError, RuntimeError) as error:
        line = first_line(error)
        raise Failure(
            ExitCode.NO_INPUT,
            f"CIFAR-10 could not be downloaded to {directory} ({line});"
            " give a folder of images with --data, or --generated for made-up ones",
        ) from None
    return ImageSet(
        np.ascontiguousarray(train.data.transpose(0, 3, 1, 2)),
        np.asarray(train.targets, np.int64),
        np.ascontiguousarray(test.data.transpose(0, 3, 1, 2)),
        np.asarray(test.targets, np.int64),
        class_names=tuple(train.classes),
        source="CIFAR-10 by torchvision",
        generated=False,
    )


def default_cache() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/flockwise`, or `~/.cache/flockwise`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "flockwise"


def _picks(count: int, most: int | None, chance: np.random.Generator) -> Labels:
    if most is None or most >= count:
        return np.arange(count)
    return np.sort(chance.permutation(count)[:most])
