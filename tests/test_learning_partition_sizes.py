"""How much each device gets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.partition_sizes import by_power_law, by_quantity, sizes_by

LABELS = np.arange(1000) % 10


@given(
    heights=st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any),
    each=st.integers(1, 60),
    more=st.integers(0, 39),
)
def test_sizes_sum_up_leave_nobody_short_and_rise_with_the_shares(
    heights: list[int], each: int, more: int
) -> None:
    total = each * len(heights) + min(more, len(heights) - 1)
    sizes = sizes_by(np.array(heights) / sum(heights), total)
    assert sizes.sum() == total
    assert sizes.min() >= min(10, max(each // 2, 1))
    for one, height in zip(sizes, heights, strict=True):
        for other, lower in zip(sizes, heights, strict=True):
            assert one >= other or height <= lower


def test_sizes_are_the_shares_where_nobody_would_be_short() -> None:
    assert sizes_by(np.array([0.5, 0.3, 0.2]), 1000).tolist() == [500, 300, 200]


def test_scarce_examples_are_still_skewed_and_nobody_has_none() -> None:
    assert sizes_by(np.array([0.7, 0.3, 0.0]), 12).tolist() == [7, 3, 2]
    assert sizes_by(np.array([0.7, 0.3, 0.0]), 4).tolist() == [2, 1, 1]
    assert sizes_by(np.array([0.7, 0.3, 0.0]), 3).tolist() == [1, 1, 1]


def test_what_is_above_the_least_makes_room_for_those_that_would_be_short() -> None:
    assert sizes_by(np.array([0.7, 0.3, 0.0]), 90).tolist() == [55, 25, 10]


@given(
    devices=st.integers(1, 200),
    exponent=st.sampled_from([0.0, 0.3, 1.0, 2.5, 10.0]),
    seed=st.integers(0, 20),
)
def test_the_sizes_of_a_power_law_fall_from_device_to_device(
    devices: int, exponent: float, seed: int
) -> None:
    sizes = [len(part) for part in by_power_law(LABELS, devices, exponent, seed=seed)]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == 1000


def test_an_exponent_of_one_halves_from_the_first_device_to_the_second() -> None:
    sizes = [len(part) for part in by_power_law(np.zeros(100_000, np.int64), 20, 1.0, seed=0)]
    assert sizes[0] == pytest.approx(2 * sizes[1], rel=0.01)
    assert sizes[0] == pytest.approx(10 * sizes[9], rel=0.01)


def test_an_exponent_of_zero_is_even() -> None:
    assert {len(part) for part in by_power_law(LABELS, 7, 0.0, seed=0)} == {142, 143}


def test_a_larger_exponent_gives_more_to_the_first_device() -> None:
    first = [len(by_power_law(LABELS, 20, exponent, seed=0)[0]) for exponent in (0, 0.5, 1, 2, 4)]
    assert first == sorted(set(first))


def test_a_smaller_alpha_spreads_the_sizes() -> None:
    spread = [
        np.std([len(part) for part in by_quantity(LABELS, 20, alpha, seed=0)])
        for alpha in (1e6, 5.0, 0.5, 1e-9)
    ]
    assert spread == sorted(set(spread))
    assert spread[0] < 1


def test_a_vanishing_alpha_gives_one_device_all_but_the_least() -> None:
    sizes = sorted(len(part) for part in by_quantity(LABELS, 20, 1e-9, seed=0))
    assert sizes == [10] * 19 + [810]


def test_quantity_skew_leaves_the_labels_alike() -> None:
    labels = np.arange(50_000) % 10
    for part in by_quantity(labels, 10, 5.0, seed=0):
        assert np.bincount(labels[part]) / len(part) == pytest.approx([0.1] * 10, abs=0.03)
