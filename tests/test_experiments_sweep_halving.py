"""Hyperband: who falls behind at a band ends, and nobody else."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.sweep.halving import Hyperband, read_early_terminate

HISTORIES = st.lists(st.floats(-1, 1), max_size=12)


def read(**told: Any) -> Hyperband:
    faults: list[str] = []
    found = read_early_terminate({"type": "hyperband", **told}, faults)
    assert found is not None, faults
    return found


def test_bands_begin_at_the_least_or_end_at_the_most() -> None:
    assert read(min_iter=3).bands[:4] == (3, 9, 27, 81)
    assert read(max_iter=27, s=2).bands == (3, 9)
    assert read(max_iter=8, s=3, eta=2).bands == (1, 2, 4)


def test_a_run_is_compared_at_its_newest_band() -> None:
    rule = Hyperband((1, 2), 2)
    rivals = [[10, 9], [10, 10], [10, 8, 8], [10, 6, 6]]
    assert not rule.is_behind([10], rivals), "no band yet"
    assert rule.is_behind([10, 10], rivals)
    assert not rule.is_behind([10, 7], rivals)
    assert rule.is_behind([10, 7, 9], rivals)


def test_the_first_run_has_nobody_to_fall_behind() -> None:
    assert not Hyperband((1,), 3).is_behind([0.0, 5.0, 9.0], [])


@given(st.lists(HISTORIES, min_size=1, max_size=8), st.sampled_from([2, 3, 4]))
def test_the_best_of_all_is_never_behind(histories: list[list[float]], eta: int) -> None:
    rule = Hyperband((0, 1, 4), eta)
    longest = max(len(one) for one in histories)
    best = [min(one[n] for one in histories if len(one) > n) for n in range(longest)]
    assert not rule.is_behind(best, histories)


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({"type": "envelope"}, "early_terminate must be of type hyperband"),
        ({"type": "hyperband"}, "early_terminate needs min_iter, or max_iter and s"),
        ({"type": "hyperband", "min_iter": 0}, "early_terminate needs min_iter, or max_iter and s"),
        ({"type": "hyperband", "max_iter": 2, "s": 1}, "whole numbers that leave room for eta"),
        ({"type": "hyperband", "min_iter": 3, "eta": 1}, "has an eta that is no number above 1"),
        ({"type": "hyperband", "min_iter": 3, "etta": 2}, "unknown key etta; did you mean eta?"),
    ],
)
def test_faults_are_one_line(told: dict[str, Any], fault: str) -> None:
    faults: list[str] = []
    assert read_early_terminate(told, faults) is None
    (line,) = faults
    assert fault in line
