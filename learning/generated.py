"""A made-up set of images, for machines without a network and for tests.

Each class has a few smooth coloured patterns. An image is one of them, shifted, dimmed, perhaps
mirrored, with a fainter pattern of another class laid over it and noise on top: a network learns
it, yet not at once. Whatever is measured on it must be told as generated.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from learning.chunks import Images, Labels
from learning.data import ImageSet

CLASSES = 10
_PATTERNS = 6
_CANVAS = 40
_SIDE = 32
_BLOCK = 2000


def generated_images(*, train: int, test: int, seed: int) -> ImageSet:
    """A set of ten classes; the same numbers and seed give the same images.

    Args:
        train: number of training images.
        test: number of test images.
        seed: decides the patterns and the images.
    """
    chance = np.random.default_rng([seed, 0])
    patterns = _patterns(chance)
    train_images, train_labels = _draw(patterns, train, np.random.default_rng([seed, 1]))
    test_images, test_labels = _draw(patterns, test, np.random.default_rng([seed, 2]))
    return ImageSet(
        train_images,
        train_labels,
        test_images,
        test_labels,
        class_names=tuple(f"wave-{index}" for index in range(CLASSES)),
        source=f"generated images (seed {seed})",
        generated=True,
    )


def _patterns(chance: np.random.Generator) -> npt.NDArray[np.float32]:
    """Float32[classes * patterns, 3, canvas, canvas]: sums of a few low waves, within -1 and 1."""
    waves = 6
    count = CLASSES * _PATTERNS
    frequency = chance.uniform(-3, 3, (count, waves, 2, 1, 1))
    phase = chance.uniform(0, 2 * np.pi, (count, waves, 1, 1))
    colour = chance.normal(size=(count, waves, 3))
    y, x = np.mgrid[0:_CANVAS, 0:_CANVAS] / _CANVAS
    angle = 2 * np.pi * (frequency[:, :, 0] * y + frequency[:, :, 1] * x) + phase
    field = np.einsum("pwyx,pwc->pcyx", np.cos(angle), colour)
    field /= np.abs(field).max(axis=(1, 2, 3), keepdims=True)
    patterns: npt.NDArray[np.float32] = field.astype(np.float32)
    return patterns


def _draw(
    patterns: npt.NDArray[np.float32], count: int, chance: np.random.Generator
) -> tuple[Images, Labels]:
    labels = np.arange(count, dtype=np.int64) % CLASSES
    chance.shuffle(labels)
    images = np.empty((count, 3, _SIDE, _SIDE), np.uint8)
    for start in range(0, count, _BLOCK):
        part = labels[start : start + _BLOCK]
        others = (part + chance.integers(1, CLASSES, part.size)) % CLASSES
        field = _views(patterns, part, chance) * _column(chance.uniform(0.4, 1.0, part.size))
        field += _views(patterns, others, chance) * _column(chance.uniform(0.0, 0.7, part.size))
        field += chance.normal(scale=0.4, size=field.shape).astype(np.float32)
        images[start : start + _BLOCK] = np.clip(127.5 + 100 * field, 0, 255).astype(np.uint8)
    return images, labels


def _views(
    patterns: npt.NDArray[np.float32], classes: Labels, chance: np.random.Generator
) -> npt.NDArray[np.float32]:
    """Float32[n, 3, side, side]: a pattern of each class, shifted, half of them mirrored."""
    count = classes.size
    chosen = classes * _PATTERNS + chance.integers(0, _PATTERNS, count)
    top, left = chance.integers(0, _CANVAS - _SIDE + 1, (2, count, 1))
    rows = top + np.arange(_SIDE)
    columns = left + np.arange(_SIDE)
    columns = np.where(chance.integers(0, 2, (count, 1)) == 1, columns[:, ::-1], columns)
    views: npt.NDArray[np.float32] = patterns[
        chosen[:, None, None, None],
        np.arange(3)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    return views


def _column(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    return values.astype(np.float32)[:, None, None, None]
