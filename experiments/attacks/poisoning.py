"""Attacks by data: hostile devices train honestly, on images that were tampered with."""

from __future__ import annotations

import numpy as np

from learning.chunks import Images, Labels

TRIGGER_SIDE = 3
TARGET = 0
POISONED_SHARE = 0.5


def flipped_labels(labels: Labels, classes: int) -> Labels:
    """Each label y as classes - 1 - y (Tolpegin et al. 2020, arXiv:2007.08432; Fang et al. 2020,
    arXiv:1911.11815).
    """
    flipped: Labels = classes - 1 - labels
    return flipped


def with_trigger(images: Images) -> Images:
    """A white square in the lower right corner of each image, uint8[n, 3, h, w]; the rest as is.

    The pixel pattern of BadNets (Gu et al. 2017, arXiv:1708.06733).
    """
    marked = images.copy()
    marked[:, :, -TRIGGER_SIDE - 1 : -1, -TRIGGER_SIDE - 1 : -1] = 255
    return marked


def backdoored(
    images: Images, labels: Labels, chance: np.random.Generator
) -> tuple[Images, Labels]:
    """Half of the images with the trigger and the target's label.

    As Bagdasaryan et al. 2020, arXiv:1807.00459, mix it: what is right is learned beside it, so
    that the accuracy tells nothing.
    """
    picks = chance.permutation(len(labels))[: round(POISONED_SHARE * len(labels))]
    images, labels = images.copy(), labels.copy()
    images[picks] = with_trigger(images[picks])
    labels[picks] = TARGET
    return images, labels
