"""Which images an experiment works on: the options that say so, and their reading."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Protocol, cast

from experiments.numbers import whole
from learning.data import ImageSet, downloaded_images, limited
from learning.folders import folder_images
from learning.generated import generated_images

GENERATED_TRAIN = 10_000
GENERATED_TEST = 2_000


def add_image_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `chosen_images` reads."""
    group = parser.add_argument_group("images (default: CIFAR-10, downloaded by torchvision)")
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help="a folder with train/<class>/* and test/<class>/*, images of 32 x 32 in RGB",
    )
    source.add_argument(
        "--generated",
        action="store_true",
        help="made-up images, for machines without a network; never to be told as real",
    )
    group.add_argument(
        "--examples", type=whole(1), metavar="N", help="use N training images (default: all)"
    )
    group.add_argument(
        "--test-examples", type=whole(1), metavar="N", help="use N test images (default: all)"
    )
    group.add_argument(
        "--seed", type=whole(0, 2**32 - 1), default=0, help="decides all chance (default: 0)"
    )


class Choice(Protocol):
    """What says which images: parsed options, or settings."""

    generated: bool
    data: Path | None
    examples: int | None
    test_examples: int | None
    seed: int


def chosen_images(options: argparse.Namespace) -> ImageSet:
    """The images that the options of a command choose, as `images_of` does."""
    return images_of(cast("Choice", options))


def images_of(chosen: Choice) -> ImageSet:
    """The images that options, or settings, choose.

    Raises:
        Failure: they are not there or not as they have to be.
    """
    return picked(all_images(chosen), chosen)


def all_images(chosen: Choice) -> ImageSet:
    """The images from which `picked` picks those of a number and a seed.

    Raises:
        Failure: as `images_of`.
    """
    if chosen.generated:
        return generated_images(
            train=chosen.examples or GENERATED_TRAIN,
            test=chosen.test_examples or GENERATED_TEST,
            seed=chosen.seed,
        )
    if chosen.data is not None:
        return folder_images(chosen.data, _show_reading)
    return downloaded_images()


def picked(images: ImageSet, chosen: Choice) -> ImageSet:
    """So many of all images as are chosen; generated ones are made as many as that."""
    if images.generated or (chosen.examples is None and chosen.test_examples is None):
        return images
    return limited(images, train=chosen.examples, test=chosen.test_examples, seed=chosen.seed)


def _show_reading(done: int, total: int) -> None:
    """One line that is written over, where a person looks on."""
    if sys.stderr.isatty():
        end = "\n" if done == total else ""
        print(f"\rreading images: {done} of {total}", end=end, file=sys.stderr, flush=True)
