"""Mixing before a robust rule: toy numbers, byzfl as oracle, and what it is for."""

from __future__ import annotations

import numpy as np
import pytest

from config.settings import Aggregation
from coordinator.aggregation import united
from coordinator.robust import Rows, mixed

FAR = 1e6


def crowd(n: int, d: int, seed: int) -> Rows:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_each_row_becomes_the_mean_of_itself_and_its_nearest_others() -> None:
    rows = np.array([[0.0], [1.0], [3.0], [100.0]], np.float32)
    assert mixed(rows, 2).tolist() == [[0.5], [0.5], [2.0], [51.5]]


def test_with_none_hostile_each_row_becomes_the_mean_of_all() -> None:
    assert mixed(np.array([[0.0], [3.0]], np.float32), 0).tolist() == [[1.5], [1.5]]


def test_a_row_alone_stays_as_it_is() -> None:
    assert mixed(np.array([[2.0]], np.float32), 0).tolist() == [[2.0]]


def test_the_rows_stay_as_they_are() -> None:
    rows = crowd(5, 7, 0)
    before = rows.tobytes()
    mixed(rows, 2)
    assert rows.tobytes() == before


@pytest.mark.parametrize(("n", "hostile", "seed"), [(10, 4, 0), (10, 2, 1), (7, 3, 2)])
def test_it_is_that_of_byzfl(n: int, hostile: int, seed: int) -> None:
    byzfl = pytest.importorskip("byzfl", reason="byzfl, the oracle, is not installed")
    rows = crowd(n, 150, seed)
    rows[:hostile] += 5
    oracle = byzfl.NNM(hostile)(rows.astype(np.float64))
    np.testing.assert_allclose(mixed(rows, hostile), oracle, rtol=1e-5, atol=1e-6)


def test_no_honest_row_is_mixed_with_a_far_one_while_no_more_are_hostile_than_assumed() -> None:
    rows = crowd(10, 20, 3)
    rows[:4] += FAR
    assert np.abs(mixed(rows, 4)[4:]).max() < 5
    assert np.abs(mixed(rows, 3)[4:]).max() > FAR / 10


@pytest.mark.parametrize("rule", ["trimmed_mean", "median", "geometric_median", "multi_krum"])
def test_it_brings_a_rule_nearer_to_the_honest_mean(rule: str) -> None:
    rows = crowd(10, 200, 4)
    honest = rows[3:].mean(axis=0)
    rows[:3] = -3 * honest

    def off(mix: bool) -> float:
        settings = Aggregation.model_validate(
            {"combine": rule, "hostile_fraction": 0.3, "mix": mix}
        )
        update, _ = united(settings, ((row, 1.0, 1.0) for row in rows), 10, 200)
        return float(np.linalg.norm(update - honest))

    assert off(mix=True) < off(mix=False)


def test_a_mean_is_not_mixed() -> None:
    rows = crowd(4, 6, 5)
    made = [
        united(
            Aggregation.model_validate({"combine": "mean", "mix": mix}),
            ((row, 1.0, 1.0) for row in rows),
            4,
            6,
        )[0].tobytes()
        for mix in (False, True)
    ]
    assert made[0] == made[1]
