"""The arithmetic of versions, on vectors of two numbers that can be checked in the head."""

from __future__ import annotations

import math
import weakref
from typing import Any

import numpy as np
import pytest

from config.settings import Aggregation, CoordinatorSettings
from coordinator.aggregation import reanchored, step, united, weighted_mean
from coordinator.ranges import AT_ONCE
from coordinator.trigger import contribution, staleness_scale
from federation.compression import Vector
from tests.specimens import accepted


def vector(*numbers: float) -> Vector:
    return np.array(numbers, dtype=np.float32)


def rule(**fields: Any) -> Aggregation:
    return Aggregation(**{"step_size": 0.5, "beta1": 0.5, "beta2": 0.75, "epsilon": 0.5, **fields})


def test_one_update_is_its_own_mean() -> None:
    mean = weighted_mean([(vector(2, -4), 1.0, 7.0)], 2)
    assert mean.tolist() == [2, -4]


def test_weights_of_examples_give_the_mean_of_fedavg() -> None:
    # (1 * 30 + 5 * 10) / 40 = 2 and (0 * 30 + 8 * 10) / 40 = 2
    mean = weighted_mean([(vector(1, 0), 1.0, 30.0), (vector(5, 8), 1.0, 10.0)], 2)
    assert mean.tolist() == [2, 2]


def test_equal_weights_and_staleness_scales_give_the_sum_of_fedbuff() -> None:
    # (1/K) sum of delta / sqrt(1 + t) with t = 0 and t = 3: (4 + 8 / 2) / 2 and (2 + 6 / 2) / 2
    parts = [(vector(4, 2), 1.0, 1.0), (vector(8, 6), 1 / np.sqrt(4.0), 1.0)]
    assert weighted_mean(parts, 2).tolist() == [4, 2.5]


def test_an_old_update_does_not_make_the_others_count_more() -> None:
    fresh = weighted_mean([(vector(4, 4), 1.0, 1.0), (vector(0, 0), 1.0, 1.0)], 2)
    beside_an_old_one = weighted_mean([(vector(4, 4), 1.0, 1.0), (vector(0, 0), 0.1, 1.0)], 2)
    assert fresh.tolist() == beside_an_old_one.tolist() == [2, 2]


def test_the_mean_keeps_float32_and_leaves_its_inputs_alone() -> None:
    first, second = vector(1, 2), vector(3, 4)
    mean = weighted_mean([(first, 0.5, 2.0), (second, 1.0, 1.0)], 2)
    assert mean.dtype == np.float32
    assert first.tolist() == [1, 2]
    assert second.tolist() == [3, 4]


def test_the_mean_reads_updates_one_by_one() -> None:
    read = []

    def parts() -> Any:
        for n in range(3):
            read.append(n)
            yield vector(n, n), 1.0, 1.0

    assert weighted_mean(parts(), 2).tolist() == [1, 1]
    assert read == [0, 1, 2]


def five(*scales_and_weights: tuple[float, float]) -> list[tuple[Vector, float, float]]:
    """Deltas of 2, 4, 6, 8 and 100, with scale 1 and weight 1 unless told."""
    known = list(scales_and_weights) + [(1.0, 1.0)] * (5 - len(scales_and_weights))
    return [(vector(delta), *pair) for delta, pair in zip((2, 4, 6, 8, 100), known, strict=True)]


@pytest.mark.parametrize(
    ("combine", "update", "left_out"),
    [
        ("mean", 24, []),
        ("clipped_mean", 24, []),
        ("trimmed_mean", 6, []),
        ("median", 6, []),
        ("geometric_median", 6, []),
        ("multi_krum", 5, [4]),
    ],
)
def test_updates_are_united_by_the_rule_that_is_set(
    combine: str, update: float, left_out: list[int]
) -> None:
    made, out = united(rule(combine=combine, hostile_fraction=0.2), five(), 5, 1)
    np.testing.assert_allclose(made, [update], atol=0.1)
    assert made.dtype == np.float32
    assert np.flatnonzero(out).tolist() == left_out


def test_the_fraction_of_hostile_updates_says_how_many_values_are_cut() -> None:
    # Nothing: 120 / 5. One of five at either end: (4 + 5 + 9) / 3. Two: 5.
    parts = [(vector(n), 1.0, 1.0) for n in (2, 4, 9, 5, 100)]
    made = [
        united(rule(combine="trimmed_mean", hostile_fraction=f), parts, 5, 1)[0].item()
        for f in (0.0, 0.2, 0.4)
    ]
    assert made == [24, 6, 5]


@pytest.mark.parametrize("combine", ["trimmed_mean", "median", "geometric_median", "multi_krum"])
def test_an_old_update_is_scaled_before_it_is_compared(combine: str) -> None:
    # 100 / 100 lies below the others, and no more above them.
    scaled, _ = united(rule(combine=combine), five(*[(1.0, 1.0)] * 4, (0.01, 1.0)), 5, 1)
    told, _ = united(rule(combine=combine), [(vector(n), 1.0, 1.0) for n in (2, 4, 6, 8, 1)], 5, 1)
    fresh, _ = united(rule(combine=combine), five(), 5, 1)
    assert scaled.tolist() == told.tolist() != fresh.tolist()


@pytest.mark.parametrize("combine", ["trimmed_mean", "median", "multi_krum"])
def test_rules_that_know_no_weights_count_updates_alike(combine: str) -> None:
    heavy = five(*[(1.0, 1.0)] * 4, (1.0, 1e6))
    made, alike = (united(rule(combine=combine), parts, 5, 1)[0] for parts in (heavy, five()))
    assert made.tolist() == alike.tolist()


def test_the_geometric_median_goes_to_where_most_of_the_weight_is() -> None:
    made, _ = united(rule(combine="geometric_median"), five((1.0, 50.0)), 5, 1)
    np.testing.assert_allclose(made, [2], atol=0.1)


@pytest.mark.parametrize("combine", ["mean", "clipped_mean"])
def test_a_mean_holds_a_few_updates_at_a_time(combine: str) -> None:
    alive: list[weakref.ref[Any]] = []

    def parts() -> Any:
        for n in range(3 * AT_ONCE):
            delta = vector(n)
            alive.append(weakref.ref(delta))
            yield delta, 1.0, 1.0
            del delta
            assert sum(one() is not None for one in alive) <= AT_ONCE

    made, _ = united(rule(combine=combine), parts(), 3 * AT_ONCE, 1)
    assert made.tolist() == [(3 * AT_ONCE - 1) / 2]


def test_reanchored_is_the_way_from_the_current_model_to_the_devices_own() -> None:
    # base 10 + delta 2 = local 12; the current model is at 15, so the step is -3.
    towards = reanchored(vector(2, 1), base=vector(10, 0), current=vector(15, 1))
    assert towards.tolist() == [-3, 0]


def test_fedasync_mixes_the_devices_model_into_the_current_one() -> None:
    # w + alpha s (w_local - w) = 8 + 0.6 * 0.5 * (18 - 8) = 11, and 8 - 0.3 * 10 = 5
    current, local = vector(8, 8), vector(18, -2)
    base = vector(1, 1)
    towards = reanchored(local - base, base, current)
    update = weighted_mean([(towards, 0.5, 1.0)], 2)
    model, _ = step(rule(step_size=0.6), current, {}, update)
    np.testing.assert_allclose(model, [11, 5], rtol=1e-6)


def test_alpha_of_fedasync_is_not_compounded_from_step_to_step() -> None:
    settings = CoordinatorSettings(strategy="fedasync").aggregation
    moved = []
    state: dict[str, Vector] = {}
    for version in range(4):
        stale = accepted(base=version - 3 if version >= 3 else version)
        scale = contribution(settings, stale, version).scale
        update = weighted_mean([(vector(1, 1), scale, 1.0)], 2)
        model, state = step(settings, vector(0, 0), state, update)
        moved.append(float(model[0]))
    # alpha is 0.6 each time; only the last, three versions late, is halved.
    np.testing.assert_allclose(moved, [0.6, 0.6, 0.6, 0.3], rtol=1e-6)


def test_sgd_adds_eta_times_the_update_and_remembers_nothing() -> None:
    model, state = step(rule(step="sgd"), vector(1, 2), {}, vector(4, -2))
    assert model.tolist() == [3, 1]
    assert state == {}


def test_momentum_goes_on_in_the_direction_of_former_updates() -> None:
    # m = 4, w = 1 + 0.5 * 4 = 3; then m = 0.5 * 4 + 2 = 4, w = 3 + 0.5 * 4 = 5
    momentum = rule(step="momentum")
    model, state = step(momentum, vector(1, 1), {}, vector(4, 0))
    assert model.tolist() == [3, 1]
    model, state = step(momentum, model, state, vector(2, 2))
    assert model.tolist() == [5, 2]
    assert state["m"].tolist() == [4, 2]


def test_adam_divides_by_the_root_of_the_second_moment() -> None:
    # m = 0.5 * 2 = 1; v = 0.75 * 0.25 + 0.25 * 4 = 1.1875; w = 0 + 0.5 * 1 / (sqrt(v) + 0.5)
    model, state = step(rule(step="adam"), vector(0, 0), {}, vector(2, 0))
    assert state["m"].tolist() == [1, 0]
    assert state["v"].tolist() == [1.1875, 0.1875]
    np.testing.assert_allclose(model, [0.5 / (1.1875**0.5 + 0.5), 0], rtol=1e-6)


def test_adam_goes_on_from_the_state_of_the_last_step() -> None:
    # m = 0.5 * 1 + 0.5 * 2 = 1.5; v = 0.75 * 4 + 0.25 * 4 = 4; w = 0.5 * 1.5 / (2 + 0.5) = 0.3
    former = {"m": vector(1), "v": vector(4)}
    model, state = step(rule(step="adam"), vector(0), former, vector(2))
    assert (state["m"].tolist(), state["v"].tolist()) == ([1.5], [4])
    np.testing.assert_allclose(model, [0.3], rtol=1e-6)


@pytest.mark.parametrize(("former", "second"), [(0.25, 1.25), (9.0, 8.0), (4.0, 4.0)])
def test_yogi_moves_the_second_moment_by_a_bounded_amount(former: float, second: float) -> None:
    # The square of the update is 4: v goes a quarter of it up, down, or stays.
    state = {"m": vector(0), "v": vector(former)}
    model, state = step(rule(step="yogi"), vector(0), state, vector(2))
    assert state["v"].tolist() == [second]
    np.testing.assert_allclose(model, [0.5 * 1 / (second**0.5 + 0.5)], rtol=1e-6)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "yogi"])
def test_no_step_changes_what_it_is_given(name: str) -> None:
    model, update = vector(1, 2), vector(3, 4)
    state = {"m": vector(5, 6), "v": vector(7, 8)}
    stepped, after = step(rule(step=name), model, state, update)
    assert (model.tolist(), update.tolist()) == ([1, 2], [3, 4])
    assert (state["m"].tolist(), state["v"].tolist()) == ([5, 6], [7, 8])
    assert all(v.dtype == np.float32 for v in (stepped, *after.values()))


def test_the_scale_of_an_update_falls_with_the_versions_it_missed() -> None:
    assert [staleness_scale(rule(staleness="constant"), t) for t in (0, 99)] == [1, 1]
    polynomial = rule(staleness="polynomial", staleness_exponent=0.5)
    assert [staleness_scale(polynomial, t) for t in (0, 3, 8)] == [1, 1 / 2, pytest.approx(1 / 3)]
    hinge = rule(staleness="hinge", hinge_slope=2.0, hinge_knee=3)
    assert [staleness_scale(hinge, t) for t in (0, 3, 4, 5)] == [1, 1, 1 / 3, 1 / 5]


def test_an_update_weighs_one_or_as_much_as_its_examples() -> None:
    late = accepted(base=4, examples=30)
    assert contribution(rule(by_examples=False), late, 7).weight == 1
    by_examples = contribution(rule(by_examples=True), late, 7)
    assert (by_examples.weight, by_examples.staleness, by_examples.scale) == (30, 3, 0.5)


# Against the papers, written down once more


@pytest.mark.parametrize("name", ["momentum", "adam", "yogi"])
def test_many_steps_are_those_of_the_paper(name: str) -> None:
    """Reddi et al. 2021, algorithm 2, and FedAvgM, one element at a time in float64."""
    eta, beta1, beta2, tau = 0.03, 0.9, 0.99, 1e-3
    settings = rule(step=name, step_size=eta, beta1=beta1, beta2=beta2, epsilon=tau)
    updates = np.random.default_rng(0).normal(size=(50, 20)).astype(np.float32)
    model, state = np.zeros(20, np.float32), {}
    for update in updates:
        model, state = step(settings, model, state, update)
    for element in range(20):
        x, m, v = 0.0, 0.0, tau**2
        for delta in updates[:, element].tolist():
            if name == "momentum":
                m = beta1 * m + delta
                x += eta * m
                continue
            m = beta1 * m + (1 - beta1) * delta
            if name == "adam":
                v = beta2 * v + (1 - beta2) * delta**2
            else:
                v -= (1 - beta2) * delta**2 * math.copysign(1.0, v - delta**2)
            x += eta * m / (math.sqrt(v) + tau)
        assert model[element] == pytest.approx(x, rel=2e-4, abs=1e-5)
