"""Combine and step: how K updates are made one, and what the server does with it.

Plain functions over flat vectors. For a mean the updates are streamed: each is read, scaled,
added and let go, so memory holds one sum and one update, however many there are. The other rules
need them all at once: K d numbers. The order of the contributions is the order of the sum, so the
same ledger gives the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from config.settings import Aggregation
from coordinator.robust import (
    Mask,
    Rows,
    assumed_hostile,
    geometric_median,
    median,
    mixed,
    multi_krum,
    trimmed_mean,
)
from federation.compression import Vector


def united(
    rule: Aggregation, deltas: Iterable[tuple[Vector, float, float]], n: int, d: int
) -> tuple[Vector, Mask]:
    """The one update that the rule makes of n, Float32[d], and which of them it left out, Bool[n].

    mean, clipped_mean: `weighted_mean`; by what an update is clipped is in its scale already.
    geometric_median: of the rows scale_i * delta_i, weighted by weight_i.
    trimmed_mean, median, multi_krum: of the same rows, which count alike: these rules know no
    weights, so that what a device says of its examples does not make it heavier. Only multi_krum
    leaves whole updates out. With `mix` each row is first averaged with its nearest others.

    Args:
        deltas: for each update its delta Float32[d], scale and weight.
        n: how many there are, at least 1.
        d: size of the vector.
    """
    none_left_out = np.zeros(n, dtype=np.bool_)
    if rule.combine in ("mean", "clipped_mean"):
        return weighted_mean(deltas, d), none_left_out
    hostile = assumed_hostile(rule.hostile_fraction, n)
    rows, weights = _together(deltas, n, d)
    if rule.mix:
        rows = mixed(rows, hostile)
    match rule.combine:
        case "trimmed_mean":
            return trimmed_mean(rows, hostile), none_left_out
        case "median":
            return median(rows), none_left_out
        case "geometric_median":
            return geometric_median(rows, weights), none_left_out
        case "multi_krum":
            update, chosen = multi_krum(rows, hostile)
            return update, ~chosen
    raise AssertionError(f"no rule {rule.combine}")


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


def _together(
    deltas: Iterable[tuple[Vector, float, float]], n: int, d: int
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The scaled deltas, Float32[n, d], and their weights, Float64[n]."""
    rows = np.empty((n, d), dtype=np.float32)
    weights = np.empty(n, dtype=np.float64)
    for place, (delta, scale, weight) in enumerate(deltas):
        np.multiply(delta, np.float32(scale), out=rows[place])
        weights[place] = weight
    return rows, weights
