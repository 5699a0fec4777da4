"""Combine and step: how K updates are made one, and what the server does with it.

Plain functions over flat vectors. For a mean the updates are streamed by ranges that fit a cache,
on all cores: of each range every update is decoded, scaled and added, and nothing else of them is
kept, so memory holds one sum and a few ranges, however many updates there are. The other rules
need them all at once: K d numbers. The order of the contributions is the order of the sum, element
by element, so the same ledger gives the same bits with any number of threads.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from config.settings import Aggregation
from coordinator.ranges import AT_ONCE, Source, by_ranges
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

# Updates in order: what gives the delta, Float32[d], its scale and its weight.
Deltas: TypeAlias = Iterable[tuple[Source, float, float]]


def united(
    rule: Aggregation, deltas: Deltas, n: int, d: int, threads: int | None = None
) -> tuple[Vector, Mask]:
    """The one update that the rule makes of n, Float32[d], and which of them it left out, Bool[n].

    mean, clipped_mean: `weighted_mean`; by what an update is clipped is in its scale already.
    geometric_median: of the rows scale_i * delta_i, weighted by weight_i.
    trimmed_mean, median, multi_krum: of the same rows, which count alike: these rules know no
    weights, so that what a device says of its examples does not make it heavier. Only multi_krum
    leaves whole updates out. With `mix` each row is first averaged with its nearest others.

    Args:
        n: how many there are, at least 1.
        d: size of the vector.
        threads: as for `by_ranges`.
    """
    none_left_out = np.zeros(n, dtype=np.bool_)
    if rule.combine in ("mean", "clipped_mean"):
        return weighted_mean(deltas, d, threads), none_left_out
    hostile = assumed_hostile(rule.hostile_fraction, n)
    rows, weights = _together(deltas, n, d, threads)
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


def weighted_mean(deltas: Deltas, d: int, threads: int | None = None) -> Vector:
    """sum(scale_i * weight_i * delta_i) / sum(weight_i), Float32[d].

    With weight n_i and scale 1 it is FedAvg's mean (McMahan et al. 2017, algorithm 1); with weight
    1 and scale s(t_i) it is FedBuff's (1/K) sum(s(t_i) delta_i) (Nguyen et al. 2022, algorithm 1):
    an old update counts less, and does not make the others count more.

    Memory: the sum, for each thread a range or two, and what `AT_ONCE` updates hold of themselves.

    Args:
        d: size of the vector.
        threads: as for `by_ranges`.
    """
    total = np.zeros(d, dtype=np.float32)
    weights = 0.0
    following = iter(deltas)
    # So many at a time that their files may be open, and that the sum passes by seldom.
    while some := list(islice(following, AT_ONCE)):
        _add(total, some, threads)
        for _, _, weight in some:
            weights += weight
        some.clear()
    divisor = np.float32(weights)

    def divide(where: slice) -> None:
        total[where] /= divisor

    by_ranges(d, divide, threads)
    return total


def _add(total: Vector, deltas: list[tuple[Source, float, float]], threads: int | None) -> None:
    factors = [(delta, np.float32(scale * weight)) for delta, scale, weight in deltas]

    def add(where: slice) -> None:
        sum_of_range = total[where]
        scaled = np.empty_like(sum_of_range)
        for delta, factor in factors:
            if factor == 1:  # the product would be the same bits
                sum_of_range += delta[where]
            else:
                np.multiply(delta[where], factor, out=scaled)
                sum_of_range += scaled

    by_ranges(total.size, add, threads)


def reanchored(delta: Vector, base: Vector, current: Vector) -> Vector:
    """The step from the current model to the device's own, which is base + delta (FedAsync)."""
    towards: Vector = base + delta - current
    return towards


def step(
    rule: Aggregation,
    model: Vector,
    state: dict[str, Vector],
    update: Vector,
    *,
    into: Vector | None = None,
    threads: int | None = None,
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
        into: where the next model is written, Float32[d]; it may be `update`, which is lost then.
        threads: as for `by_ranges`.
    """
    stepped = np.empty_like(model) if into is None else into
    after = {name: np.empty_like(model) for name in _REMEMBERED[rule.step]}

    def take(where: slice) -> None:
        before = {name: state[name][where] for name in after if name in state}
        stepped[where], remembered = _stepped(rule, model[where], before, update[where])
        for name, vector in remembered.items():
            after[name][where] = vector

    by_ranges(model.size, take, threads)
    return stepped, after


_REMEMBERED = {"sgd": (), "momentum": ("m",), "adam": ("m", "v"), "yogi": ("m", "v")}


def _stepped(
    rule: Aggregation, model: Vector, state: dict[str, Vector], update: Vector
) -> tuple[Vector, dict[str, Vector]]:
    """`step` for a range: its temporaries are of this size."""
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
    deltas: Deltas, n: int, d: int, threads: int | None
) -> tuple[Rows, npt.NDArray[np.float64]]:
    """The scaled deltas, Float32[n, d], and their weights, Float64[n]."""
    rows = np.empty((n, d), dtype=np.float32)
    weights = np.empty(n, dtype=np.float64)
    for place, (delta, scale, weight) in enumerate(deltas):
        _fill(rows[place], delta, np.float32(scale), threads)
        weights[place] = weight
    return rows, weights


def _fill(row: Vector, delta: Source, scale: np.float32, threads: int | None) -> None:
    def fill(where: slice) -> None:
        np.multiply(delta[where], scale, out=row[where])

    by_ranges(row.size, fill, threads)
