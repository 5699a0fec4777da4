"""Who gets which examples: evenly at random, or skewed by label; the same seed, the same parts."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from learning.chunks import Labels

# Fewer examples than this on a device are a rare accident of a skewed draw, not a device.
LEAST = 10


def iid(labels: Labels, devices: int, *, seed: int) -> list[Labels]:
    """Indices for each device: a shuffle, cut evenly.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        seed: decides the shuffle.
    """
    chance = np.random.default_rng([seed, 10])
    return [np.sort(part) for part in np.array_split(chance.permutation(len(labels)), devices)]


def by_dirichlet(labels: Labels, devices: int, alpha: float, *, seed: int) -> list[Labels]:
    """Indices for each device: each label is divided by shares drawn from Dirichlet(alpha).

    The smaller alpha is, the fewer labels a device sees (Hsu et al. 2019, arXiv:1909.06335, as
    drawn by NIID-Bench, Li et al. 2021, arXiv:2102.02079). A device that would get fewer than ten
    examples is filled up from the largest one.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        alpha: above 0; 100 is nearly even, 0.1 leaves a device with two or three labels.
        seed: decides the shares and the examples.
    """
    chance = np.random.default_rng([seed, 11])
    parts: list[list[int]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = chance.permutation(np.flatnonzero(labels == label))
        shares = chance.dirichlet(np.full(devices, alpha))
        if not np.isfinite(shares).all():  # all shares underflowed: one device takes it
            shares = np.eye(devices)[chance.integers(devices)]
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, taken in zip(parts, np.split(members, cuts), strict=True):
            part.extend(taken.tolist())
    least = min(LEAST, len(labels) // devices)
    for part in parts:
        while len(part) < least:
            largest = max(parts, key=len)
            part.append(largest.pop(int(chance.integers(len(largest)))))
    return [np.sort(np.array(part, np.int64)) for part in parts]


def split_held_out(
    labels: Labels, indices: Labels, share: float, *, seed: int
) -> tuple[Labels, Labels]:
    """Divide one device's indices into those to train on and those held out, by label.

    Each label gives its share, rounded so that the total is the share of the whole; the last
    example of a device is never held out.

    Args:
        labels: int64[n] of the whole set.
        indices: int64[k] of this device.
        share: 0 to below 1.
        seed: decides which examples are held out.

    Returns:
        Sorted indices to train on and held out; together they are `indices`.
    """
    chance = np.random.default_rng([seed, 12])
    shuffled = chance.permutation(indices)
    ordered = shuffled[np.argsort(labels[shuffled], kind="stable")]
    wanted = min(round(share * len(ordered)), len(ordered) - 1)
    # Evenly spaced picks in an order by label take from each label what it is due.
    places = ((np.arange(wanted) + 0.5) * len(ordered) / max(wanted, 1)).astype(np.int64)
    held_out: npt.NDArray[np.bool_] = np.zeros(len(ordered), np.bool_)
    held_out[places] = True
    return np.sort(ordered[~held_out]), np.sort(ordered[held_out])


def counts_by_label(labels: Labels, parts: list[Labels], classes: int) -> npt.NDArray[np.int64]:
    """int64[devices, classes]: how many examples of each label each part holds."""
    return np.stack([np.bincount(labels[part], minlength=classes) for part in parts])
