"""What hostile devices send in place of what they learned: plain functions over deltas.

`honest` is Float32[n, d], the deltas that an omniscient attacker has seen; each function gives
Float32[d].
"""

from __future__ import annotations

from math import floor
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from federation.compression import Vector

Rows = npt.NDArray[np.float32]


def sign_flip(own: Vector, factor: float = 5.0) -> Vector:
    """The own honest delta turned round and enlarged: -factor * own.

    Li et al. 2019 (RSA), arXiv:1811.03761, section 5; needs to know nothing of the others.
    """
    return np.float32(-factor) * own


def gaussian(d: int, deviation: float, chance: np.random.Generator) -> Vector:
    """Noise about zero of so great a deviation.

    Blanchard et al. 2017, "Machine Learning with Adversaries", section 5, take 200.
    """
    return chance.standard_normal(d, dtype=np.float32) * np.float32(deviation)


def alie_deviations(devices: int, attackers: int) -> float:
    """z of ALIE: how many deviations from the mean still have enough honest devices beyond them.

    Baruch et al. 2019, arXiv:1902.06156, algorithm 3: s = floor(n / 2 + 1) - m honest ones are
    needed to make a majority with the m attackers; z is where (n - m - s) / (n - m) of a normal
    distribution lie below. It is about 0.16 for 4 of 20.
    """
    honest = devices - attackers
    needed = floor(devices / 2 + 1) - attackers
    share = min(max((honest - needed) / honest, 0.5), 0.999)
    return NormalDist().inv_cdf(share)


def alie(honest: Rows, z: float) -> Vector:
    """A little is enough: mean - z * deviation of each coordinate (Baruch et al. 2019)."""
    forged: Vector = _mean(honest) - np.float32(z) * honest.std(axis=0)
    return forged


def inner_product(honest: Rows, epsilon: float) -> Vector:
    """-epsilon * mean of the honest: the inner product with the true step is negative.

    Xie et al. 2020, "Fall of Empires", arXiv:1903.03936. A small epsilon hides among the honest,
    a large one drives a mean backwards.
    """
    return np.float32(-epsilon) * _mean(honest)


def min_max(honest: Rows) -> Vector:
    """mean - gamma * deviation with the greatest gamma that stays within the honest ones' spread.

    Shejwalkar and Houmansadr 2021, "Manipulating the Byzantine", section IV-B, with the
    perturbation "inverse standard deviation" and knowledge of the honest deltas: no honest delta
    is farther from it than two honest ones are from each other. The greatest gamma is the least
    positive root of the quadratics |mean + gamma p - h_i|^2 = D^2, so nothing is searched.
    """
    mean, direction = _mean(honest), -honest.std(axis=0)
    centred = (honest - mean).astype(np.float64)
    gram = centred @ centred.T
    squares = np.diag(gram)
    widest = float(np.max(squares[:, None] + squares[None, :] - 2 * gram))
    a = float(np.square(direction, dtype=np.float64).sum())
    if a == 0:
        return mean
    b = -(centred @ direction.astype(np.float64))
    roots = (-b + np.sqrt(np.square(b) + a * np.maximum(widest - squares, 0))) / a
    forged: Vector = mean + np.float32(roots.min()) * direction
    return forged


def _mean(honest: Rows) -> Vector:
    mean: Vector = honest.mean(axis=0, dtype=np.float64).astype(np.float32)
    return mean
