"""Differential privacy on the device: an update is clipped and noised before it is encoded.

The Gaussian mechanism on the whole vector. The noise is of the operating system's random bytes:
no seed of it is anywhere, while the coordinator knows the seed of the training. What is done with
the noised vector afterwards (residual, codec, the coordinator's arithmetic) cannot take away from
the protection.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi, sqrt
from os import urandom

import numpy as np
import numpy.typing as npt

from federation.compression import Vector

_BLOCK = 1 << 15


def privatized(delta: Vector, clip: float, noise: float) -> Vector:
    """The vector, clipped to the L2 norm `clip`, plus N(0, (noise * clip)²) on each element.

    Args:
        delta: Float32[d], finite.
        clip: what one device's update may weigh: the sensitivity.
        noise: standard deviation of the noise, in units of the clip norm.
    """
    norm = sqrt(sum(float(np.dot(block, block)) for block in _blocks(delta)))
    scale = min(1.0, clip / norm) if norm > 0 else 1.0
    private = np.empty_like(delta)
    start = 0
    for block in _blocks(delta):
        # In float64, and rounded to float32 only as a sum: the noise covers the last bits too.
        private[start : start + block.size] = block * scale + noise * clip * _normal(block.size)
        start += block.size
    return private


def _blocks(vector: Vector) -> Iterator[npt.NDArray[np.float64]]:
    """The vector in float64, piece by piece: a large model is not copied whole."""
    for start in range(0, vector.size, _BLOCK):
        yield vector[start : start + _BLOCK].astype(np.float64)


def _normal(count: int) -> npt.NDArray[np.float64]:
    """Standard normal numbers, each a sum of four by Box and Muller, over 2.

    The floating-point numbers that one transform can give have gaps, by which noise can be told
    from signal (Mironov 2012); of sums of four nothing of the kind is known to be feasible
    (Holohan, Braghin 2021, arXiv:2107.10138).
    """
    bits = np.frombuffer(urandom(32 * count), dtype="<u8") >> np.uint64(11)
    uniform = bits.astype(np.float64).reshape(2, 2 * count) * 2.0**-53
    radius, angle = np.sqrt(-2 * np.log1p(-uniform[0])), 2 * pi * uniform[1]
    four = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)]).reshape(4, count)
    total: npt.NDArray[np.float64] = four.sum(axis=0) / 2
    return total
