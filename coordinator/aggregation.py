"""Combine and step: how K updates are made one, and what the server does with it.

Plain functions over flat vectors. Updates are streamed: each is read, scaled, added and let go,
so memory holds one sum and one update, however many there are. The order of the contributions is
the order of the sum, so the same ledger gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from config.settings import Aggregation
from federation.compression import Vector


def weighted_mean(deltas: Iterable[tuple[Vector, float, float]], d: int) -> Vector:
    """sum(scale_i * weight_i * delta_i) / sum(weight_i), Float32[d].

    With weight n_i and scale 1 it is FedAvg's mean (McMahan et al. 2017, algorithm 1); with weight
    1 and scale s(t_i) it is FedBuff's (1/K) sum(s(t_i) delta_i) (Nguyen et al. 2022, algorithm 1):
    an old update counts less, and does not make the others count more.

    Args:
        deltas: for each update its delta Float32[d], scale and weight.
        d: size of the vector.
    """
    total = np.zeros(d, dtype=np.float32)
    weights = 0.0
    for delta, scale, weight in deltas:
        total += delta * np.float32(scale * weight)
        weights += weight
    total /= np.float32(weights)
    return total


def reanchored(delta: Vector, base: Vector, current: Vector) -> Vector:
    """The step from the current model to the device's own, which is base + delta (FedAsync)."""
    towards: Vector = base + delta - current
    return towards


def step(
    rule: Aggregation, model: Vector, state: dict[str, Vector], update: Vector
) -> tuple[Vector, dict[str, Vector]]:
    """The next model and the state that the next step needs; inputs are left as they are.

    sgd: w + eta u (FedAvg, FedBuff; with FedAsync's u it is its mixing step with alpha = eta).
    momentum: m = beta1 m + u; w + eta m (FedAvgM, Hsu et al. 2019, arXiv:1909.06335).
    adam, yogi: Reddi et al. 2021, arXiv:2003.00295, algorithm 2, without bias correction;
    v begins at epsilon^2 as there.

    Args:
        model: Float32[d].
        state: what the last step returned; empty at first.
        update: Float32[d], the combined update.
    """
    eta = np.float32(rule.step_size)
    if rule.step == "sgd":
        return model + eta * update, {}
    beta1 = np.float32(rule.beta1)
    first = state.get("m", np.zeros_like(model))
    if rule.step == "momentum":
        first = beta1 * first + update
        return model + eta * first, {"m": first}
    beta2, epsilon = np.float32(rule.beta2), np.float32(rule.epsilon)
    second = state.get("v", np.full_like(model, epsilon**2))
    first = beta1 * first + (1 - beta1) * update
    square = update * update
    if rule.step == "adam":
        second = beta2 * second + (1 - beta2) * square
    else:
        second = second - (1 - beta2) * square * np.sign(second - square)
    stepped = (model + eta * first / (np.sqrt(second) + epsilon)).astype(np.float32, copy=False)
    return stepped, {"m": first, "v": second}
