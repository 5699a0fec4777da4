"""How much each device gets, whatever the labels: quantity skew, by Dirichlet or by a power law."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from learning.chunks import Labels

# Fewer examples than this on a device are a rare accident of a skewed draw, not a device.
LEAST = 10


def by_quantity(labels: Labels, devices: int, alpha: float, *, seed: int) -> list[Labels]:
    """Indices for each device: a shuffle, cut into sizes by shares drawn from Dirichlet(alpha).

    Quantity skew of NIID-Bench (Li et al. 2021, arXiv:2102.02079), with the least of `sizes_by`.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        alpha: above 0; 100 is nearly even, at 0.1 a few devices have nearly all.
        seed: decides the shares and the examples.
    """
    chance = np.random.default_rng([seed, 14])
    shares = chance.dirichlet(np.full(devices, alpha))
    if not np.isfinite(shares).all():  # all shares underflowed: one device takes it
        shares = np.eye(devices)[chance.integers(devices)]
    return _cut(chance.permutation(len(labels)), sizes_by(shares, len(labels)))


def by_power_law(labels: Labels, devices: int, exponent: float, *, seed: int) -> list[Labels]:
    """Indices for each device: a shuffle, cut into sizes that go with 1 / r^exponent, r from 1.

    The sizes of real devices' data are told to follow a power law (Li et al. 2020, FedProx,
    arXiv:1812.06127); here it is Zipf's, without a draw: the first device has most. The least is
    that of `sizes_by`.

    Args:
        labels: int64[n], n >= devices.
        devices: number of parts.
        exponent: 0 is even; at 1 the first device has twice as many as the second.
        seed: decides the examples.
    """
    chance = np.random.default_rng([seed, 15])
    heights = np.arange(1, devices + 1, dtype=np.float64) ** -exponent
    return _cut(chance.permutation(len(labels)), sizes_by(heights / heights.sum(), len(labels)))


def sizes_by(shares: npt.NDArray[np.float64], total: int) -> Labels:
    """int64[devices] that sum to the total and go with the shares.

    No device gets fewer than ten, or half of an even cut where that is less, or one; what others
    have above that is scaled down to make room. A larger share never gives a smaller size.

    Args:
        shares: float64[devices], at least 0, sum 1.
        total: number of examples, at least as many as devices.
    """
    devices = len(shares)
    least = min(LEAST, max(total // devices // 2, 1))
    rest = total - least * devices
    above = np.maximum(shares * total - least, 0)
    if not rest:
        return np.full(devices, least, np.int64)
    due = above * (rest / above.sum())
    sizes: Labels = np.floor(due).astype(np.int64) + least
    # What rounding left over goes to the largest remainders.
    sizes[np.argsort(sizes - least - due, kind="stable")[: total - int(sizes.sum())]] += 1
    return sizes


def _cut(order: Labels, sizes: Labels) -> list[Labels]:
    return [np.sort(part) for part in np.split(order, np.cumsum(sizes)[:-1])]
