"""Who gets which examples: evenly at random, or skewed; the same seed, the same parts.

`partition` carries out what a person has set; each kind of cut is a function of its own.
"""

from __future__ import annotations

import heapq
from typing import Protocol

import numpy as np
import numpy.typing as npt

from config.failures import ExitCode, Failure
from config.partition import Partition
from learning.chunks import Labels
from learning.partition_sizes import LEAST, by_power_law, by_quantity


class Cut(Protocol):
    """What carries out a rule; `partition`, unless another's cut is to be followed."""

    def __call__(self, labels: Labels, devices: int, rule: Partition, *, seed: int) -> list[Labels]:
        """Sorted indices, int64[k], for each device."""
        ...


def partition(labels: Labels, devices: int, rule: Partition, *, seed: int) -> list[Labels]:
    """Sorted indices, int64[k], for each device; each example goes to exactly one.

    Args:
        labels: int64[n] of the whole set.
        devices: number of parts, none of which is empty.
        rule: the kind of cut and its numbers; its noise and held-out share are not for here.
        seed: decides all chance.

    Raises:
        Failure: these labels cannot be cut so; the message says why.
    """
    if devices > len(labels):
        raise Failure(
            ExitCode.USAGE,
            f"{devices} devices cannot share {len(labels)} training images; give fewer",
        )
    match rule.kind:
        case "iid":
            return iid(labels, devices, seed=seed)
        case "dirichlet":
            return by_dirichlet(labels, devices, rule.alpha, balanced=rule.balanced, seed=seed)
        case "shards":
            return by_shards(labels, devices, rule.labels_per_device, seed=seed)
        case "quantity":
            return by_quantity(labels, devices, rule.alpha, seed=seed)
        case "power_law":
            return by_power_law(labels, devices, rule.exponent, seed=seed)


def iid(labels: Labels, devices: int, *, seed: int) -> list[Labels]:
    """Indices for each device: a shuffle, cut evenly.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        seed: decides the shuffle.
    """
    chance = np.random.default_rng([seed, 10])
    return [np.sort(part) for part in np.array_split(chance.permutation(len(labels)), devices)]


def by_dirichlet(
    labels: Labels, devices: int, alpha: float, *, balanced: bool = False, seed: int
) -> list[Labels]:
    """Indices for each device: each label is divided by shares drawn from Dirichlet(alpha).

    The smaller alpha is, the fewer labels a device sees (Yurochkin et al. 2019, arXiv:1905.12022;
    Hsu et al. 2019, arXiv:1909.06335). A device that would get fewer than ten examples is filled
    up from the largest one.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        alpha: above 0; 100 is nearly even, 0.1 leaves a device with two or three labels.
        balanced: a device that has n / devices examples gets nothing of the labels to come, as in
            the code of NIID-Bench (Li et al. 2021, arXiv:2102.02079); sizes differ less.
        seed: decides the shares and the examples.
    """
    chance = np.random.default_rng([seed, 11])
    parts: list[list[int]] = [[] for _ in range(devices)]
    for label in np.unique(labels):
        members = chance.permutation(np.flatnonzero(labels == label))
        shares = chance.dirichlet(np.full(devices, alpha))
        able = np.ones(devices, np.bool_)
        if balanced:
            able = np.array([len(part) * devices < len(labels) for part in parts])
            shares = _whole(shares * able)
        if not np.isfinite(shares).all():  # all shares underflowed: one device takes it
            chosen = np.flatnonzero(able)
            shares = np.eye(devices)[chosen[chance.integers(len(chosen))]]
        cuts = np.rint(np.cumsum(shares)[:-1] * len(members)).astype(np.int64)
        for part, taken in zip(parts, np.split(members, cuts), strict=True):
            part.extend(taken.tolist())
    _fill_up(parts, min(LEAST, len(labels) // devices), chance)
    return [np.sort(np.array(part, np.int64)) for part in parts]


def by_shards(labels: Labels, devices: int, each: int, *, seed: int) -> list[Labels]:
    """Indices for each device: all its examples are of so many labels.

    '#C = k' of NIID-Bench (Li et al. 2021, arXiv:2102.02079): device i has label i mod c and
    others at random, and each label is divided at random and evenly among the devices that have
    it. It takes the place of the shards of McMahan et al. 2017 (arXiv:1602.05629), whose ends may
    lie in two labels. Where there are fewer devices than labels, the others are first those that
    nobody has, so that no example is lost.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        each: labels of a device, 1 to the number of different labels.
        seed: decides which labels and which examples.

    Raises:
        Failure: there are not so many labels, the devices cannot have all of them, or a label is
            too rare for the devices that have it.
    """
    chance = np.random.default_rng([seed, 13])
    different = np.unique(labels)
    if each > len(different):
        raise Failure(
            ExitCode.USAGE,
            f"a device cannot have {each} labels where the images have {len(different)};"
            " give fewer labels per device",
        )
    if devices * each < len(different):
        raise Failure(
            ExitCode.USAGE,
            f"{devices} devices with {each} of {len(different)} labels each leave labels to nobody;"
            " give more devices or more labels per device",
        )
    owners = _owners(devices, len(different), each, chance)
    parts: list[list[int]] = [[] for _ in range(devices)]
    for label, having in zip(different, owners, strict=True):
        members = chance.permutation(np.flatnonzero(labels == label))
        # What does not divide evenly goes to those that have least so far.
        having.sort(key=lambda device: len(parts[device]))
        for device, taken in zip(having, np.array_split(members, len(having)), strict=True):
            parts[device].extend(taken.tolist())
    empty = sum(not part for part in parts)
    if empty:
        raise Failure(
            ExitCode.USAGE,
            f"{empty} of {devices} devices would get no image, as a label of theirs is rare;"
            " give fewer devices or more labels per device",
        )
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


def _whole(shares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Shares that sum to one; NaN where nothing is left to share by."""
    total = shares.sum()
    return shares / total if total > 0 else np.full_like(shares, np.nan)


def _fill_up(parts: list[list[int]], least: int, chance: np.random.Generator) -> None:
    """Give each part so many examples, one by one, from what is the largest then (the first of)."""
    donors = [(-len(part), index) for index, part in enumerate(parts) if len(part) > least]
    heapq.heapify(donors)
    for part in parts:
        while len(part) < least:
            size, index = donors[0]
            part.append(parts[index].pop(int(chance.integers(-size))))
            heapq.heapreplace(donors, (size + 1, index))


def _owners(devices: int, labels: int, each: int, chance: np.random.Generator) -> list[list[int]]:
    """The devices that have each label; every label has one at least."""
    owners: list[list[int]] = [[] for _ in range(labels)]
    for device in range(devices):
        owners[device % labels].append(device)
    for device in range(devices):
        first = device % labels
        others = chance.permutation(np.delete(np.arange(labels), first))
        # Stable: labels that nobody has come first, else all is as the draw has it.
        others = others[np.argsort([bool(owners[label]) for label in others], kind="stable")]
        for label in others[: each - 1]:
            owners[label].append(device)
    return owners
