"""The robust rules: toy numbers, what each promises, where it breaks, and byzfl as an oracle.

byzfl (MIT, PyPI) is another group's implementation of the same papers. It is given the rows in
float64, so the tolerance is that of one rounding to float32.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coordinator import robust
from coordinator.robust import (
    Rows,
    assumed_hostile,
    geometric_median,
    median,
    multi_krum,
    trimmed_mean,
)

HUGE = 1e15


@pytest.fixture(autouse=True, scope="module")
def narrow_blocks() -> Iterator[None]:
    """Blocks of 64 columns, so that small vectors are cut too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(robust, "_BLOCK_BYTES", 1)
        yield


@pytest.fixture(scope="module")
def byzfl() -> ModuleType:
    # On first use, as it loads torch, scipy and matplotlib: seconds.
    return pytest.importorskip("byzfl", reason="byzfl, the oracle, is not installed")  # type: ignore[no-any-return]


def rows_of(*rows: list[float]) -> Rows:
    return np.array(rows, dtype=np.float32)


@st.composite
def crowds(draw: st.DrawFn, least: int = 1, most: int = 15) -> Rows:
    """Honest rows: normal around a point of their own, and not always of one size."""
    n = draw(st.integers(least, most))
    d = draw(st.sampled_from([1, 2, 3, 63, 64, 65, 150]))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    spread = draw(st.sampled_from([1e-4, 1.0, 1e3]))
    rows = chance.standard_normal((n, d)) * spread + chance.standard_normal(d) * 3 * spread
    return rows.astype(np.float32)


@st.composite
def attacked(draw: st.DrawFn, bear: Callable[[int], int], least: int = 1) -> tuple[Rows, int, int]:
    """Rows of which some are hostile, up to what a rule bears: the rows, how many, the most."""
    rows = draw(crowds(least=least))
    most = bear(len(rows))
    hostile = draw(st.integers(0, most))
    places = draw(st.permutations(range(len(rows))))[:hostile]
    attack = draw(st.sampled_from(["flipped", "huge", "scattered", "alike", "a little"]))
    for number, place in enumerate(places):
        match attack:
            case "flipped":
                rows[place] *= -5
            case "huge":
                rows[place] = HUGE
            case "scattered":
                rows[place] = HUGE * (-1) ** number / (number + 1)
            case "alike":
                rows[place] = rows[places[0]]
            case "a little":
                rows[place] = rows.mean(axis=0) - 1.5 * rows.std(axis=0)
    return rows, hostile, most


def for_half(n: int) -> int:
    return (n - 1) // 2


def for_krum(n: int) -> int:
    return max(0, (n - 3) // 2)


def whole(rule: str, rows: Rows) -> Any:
    """What a rule makes of rows, with as many hostile as it bears."""
    match rule:
        case "trimmed_mean":
            return trimmed_mean(rows, for_half(len(rows)) // 2)
        case "median":
            return median(rows)
        case "geometric_median":
            return geometric_median(rows)
        case "multi_krum":
            return multi_krum(rows, for_krum(len(rows)))[0]
    raise AssertionError(rule)


RULES = ["trimmed_mean", "median", "geometric_median", "multi_krum"]
every_rule = pytest.mark.parametrize("rule", RULES)


# Numbers that can be checked in the head


def test_the_trimmed_mean_cuts_the_ends_of_each_coordinate() -> None:
    rows = rows_of([1, 900], [2, 3], [3, 1], [900, 2], [4, -900])
    assert trimmed_mean(rows, 1).tolist() == [3, 2]


def test_the_trimmed_mean_that_cuts_nothing_is_the_mean() -> None:
    assert trimmed_mean(rows_of([1, 0], [2, 0], [6, 3]), 0).tolist() == [3, 1]


def test_the_trimmed_mean_cuts_no_more_than_leaves_the_median() -> None:
    rows = rows_of([1], [2], [4], [50])
    assert trimmed_mean(rows, 4).tolist() == trimmed_mean(rows, 1).tolist() == [3]
    assert trimmed_mean(rows[:3], 9).tolist() == [2]


def test_the_median_of_an_even_number_is_the_middle_of_the_middle_two() -> None:
    assert median(rows_of([1, 9], [2, 9], [4, 1], [90, 1])).tolist() == [3, 5]
    assert median(rows_of([1], [2], [90])).tolist() == [2]


def test_the_geometric_median_of_a_triangle_sees_each_side_under_the_same_angle() -> None:
    # Of (0, 0), (1, 0), (0, 1) it is the Fermat point, (3 - sqrt 3) / 6 from both axes.
    # The coordinate-wise median, where it begins, is the first row.
    point = geometric_median(rows_of([0, 0], [1, 0], [0, 1]))
    np.testing.assert_allclose(point, (3 - np.sqrt(3)) / 6, atol=2e-3)


def test_the_geometric_median_is_the_row_that_has_more_than_half_of_the_weight() -> None:
    rows, weights = rows_of([0, 0], [1, 0], [0, 1]), np.array([1.0, 9.0, 2.0])
    np.testing.assert_allclose(geometric_median(rows, weights), [1, 0], atol=0.01)


def test_multi_krum_leaves_out_the_row_that_lies_far_from_all() -> None:
    mean, chosen = multi_krum(rows_of([1], [2], [3], [4], [90]), hostile=1)
    assert chosen.tolist() == [True, True, True, True, False]
    assert mean.tolist() == [2.5]


def test_krum_is_the_row_with_the_nearest_neighbours() -> None:
    # The squares to the two nearest others: 4 + 9, 1 + 4, 1 + 4, 1 + 1, 25 + 36.
    mean, chosen = multi_krum(rows_of([0], [2], [4], [3], [9]), hostile=1, chosen=1)
    assert chosen.tolist() == [False, False, False, True, False]
    assert mean.tolist() == [3]


def test_of_two_rows_alike_multi_krum_takes_the_earlier() -> None:
    _, chosen = multi_krum(rows_of([-1], [1], [0], [0], [0]), hostile=1, chosen=4)
    assert chosen.tolist() == [True, False, True, True, True]


# Few rows, and more hostile ones than a rule bears


@every_rule
@pytest.mark.parametrize("n", [1, 2])
def test_of_one_or_two_rows_each_rule_makes_the_mean(rule: str, n: int) -> None:
    rows = rows_of([1, -4], [5, 8])[:n]
    np.testing.assert_allclose(whole(rule, rows), rows.mean(axis=0), rtol=1e-6)


@pytest.mark.parametrize(
    ("n", "hostile", "kept"), [(1, 1, 1), (2, 1, 2), (4, 2, 4), (5, 2, 4), (7, 5, 5), (10, 2, 8)]
)
def test_multi_krum_assumes_no_more_hostile_rows_than_it_can_tell(
    n: int, hostile: int, kept: int
) -> None:
    rows = np.random.default_rng(n).standard_normal((n, 3)).astype(np.float32)
    mean, chosen = multi_krum(rows, hostile)
    assert chosen.sum() == kept
    np.testing.assert_allclose(mean, rows[chosen].mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fraction", "n", "hostile"),
    [(0.2, 10, 2), (0.2, 9, 2), (0.2, 11, 3), (0.07, 100, 7), (0.2, 1, 1), (0.0, 50, 0)],
)
def test_the_assumed_hostile_rows_are_the_fraction_rounded_up(
    fraction: float, n: int, hostile: int
) -> None:
    assert assumed_hostile(fraction, n) == hostile


# What all of them promise


@every_rule
@settings(max_examples=40, deadline=None)
@given(rows=crowds(), seed=st.integers(0, 99))
def test_the_order_of_the_rows_does_not_matter(rule: str, rows: Rows, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(rows)
    one, other = whole(rule, rows), whole(rule, shuffled)
    if rule in ("trimmed_mean", "median"):
        assert one.tobytes() == other.tobytes()
    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-4 * np.abs(rows).max())


@every_rule
@settings(max_examples=40, deadline=None)
@given(
    rows=crowds(most=9).map(lambda rows: np.round(rows * 64 / np.abs(rows).max())),
    shift=st.integers(-512, 512),
    power=st.integers(-8, 8),
)
def test_rows_that_are_moved_and_scaled_move_and_scale_the_result(
    rule: str, rows: Rows, shift: int, power: int
) -> None:
    # Small whole numbers and powers of two: float32 rounds none of them.
    result = whole(rule, rows)
    moved = whole(rule, (rows + np.float32(shift)) * np.float32(2.0**power))
    np.testing.assert_allclose(moved * 2.0**-power - shift, result, rtol=0, atol=0.02)
    if rule == "median":
        assert (moved * 2.0**-power - shift).tolist() == result.tolist()


@every_rule
@settings(max_examples=40, deadline=None)
@given(rows=crowds())
def test_the_result_lies_among_the_rows_and_the_rows_stay_as_they_are(
    rule: str, rows: Rows
) -> None:
    before = rows.tobytes()
    result = whole(rule, rows)
    assert (result.dtype, result.shape) == (np.float32, rows.shape[1:])
    slack = 1e-5 * np.abs(rows).max()
    assert (result >= rows.min(axis=0) - slack).all()
    assert (result <= rows.max(axis=0) + slack).all()
    assert rows.tobytes() == before
    assert whole(rule, rows).tobytes() == result.tobytes()


@every_rule
def test_rows_all_alike_are_their_own_result(rule: str) -> None:
    rows = np.tile(rows_of([0.1, -7, 0]), (9, 1))
    np.testing.assert_allclose(whole(rule, rows), rows[0], rtol=1e-6)


@pytest.mark.parametrize("rule", ["trimmed_mean", "median"])
def test_a_zero_is_the_same_zero_whichever_row_had_it_negative(rule: str) -> None:
    rows = rows_of([0.0], [-0.0], [-0.0], [0.0], [-0.0])
    results = {whole(rule, rows[order]).tobytes() for order in ([0, 1, 2, 3, 4], [2, 4, 0, 3, 1])}
    assert results == {rows_of([0.0]).tobytes()}


@every_rule
def test_beside_the_rows_memory_holds_the_result_and_little_more(
    rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(robust, "_BLOCK_BYTES", 2**19)
    rows = np.random.default_rng(1).standard_normal((16, 500_000), dtype=np.float32)
    tracemalloc.start()
    try:
        result = whole(rule, rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < result.nbytes + 4 * 2**20 < rows.nbytes / 4


# Where they break, and not before


@settings(max_examples=60, deadline=None)
@given(attacked(for_half))
def test_the_trimmed_mean_stays_among_the_honest_values_while_no_more_are_hostile_than_cut(
    case: tuple[Rows, int, int],
) -> None:
    rows, hostile, _ = case
    assert_within_the_rest(trimmed_mean(rows, hostile), rows, hostile)


@settings(max_examples=60, deadline=None)
@given(attacked(for_half))
def test_the_median_stays_among_the_honest_values_while_fewer_than_half_are_hostile(
    case: tuple[Rows, int, int],
) -> None:
    rows, hostile, _ = case
    assert_within_the_rest(median(rows), rows, hostile)


def assert_within_the_rest(result: Any, rows: Rows, hostile: int) -> None:
    """Whichever they are: cut as many at either end, and the result lies in what is left.

    The honest values reach at least so far.
    """
    ordered = np.sort(rows, axis=0)
    slack = 1e-6 * np.abs(ordered[[hostile, -1 - hostile]]).max(axis=0)
    assert (result >= ordered[hostile] - slack).all()
    assert (result <= ordered[-1 - hostile] + slack).all()


@pytest.mark.parametrize("n", range(1, 14))
@pytest.mark.parametrize("d", [1, 70])
def test_each_rule_bears_as_many_hostile_rows_as_it_states_and_not_one_more(n: int, d: int) -> None:
    rows = np.random.default_rng(n).uniform(-1, 1, (n, d)).astype(np.float32)
    for cut in range(for_half(n) + 1):
        bears(lambda spoilt, cut=cut: trimmed_mean(spoilt, cut), rows, cut)  # type: ignore[misc]
    bears(median, rows, for_half(n))
    bears(geometric_median, rows, for_half(n))
    for hostile in range(for_krum(n) + 1):
        bears(lambda spoilt, f=hostile: multi_krum(spoilt, f)[0], rows, hostile)  # type: ignore[misc]


def bears(rule: Callable[[Rows], Any], rows: Rows, most: int) -> None:
    """`most` rows that grow without bound move the result by little; one more takes it along."""
    n, d = rows.shape
    for size in (1e3, 1e6, 1e12):
        # All alike is the worst for the medians, far apart the worst for a search of the nearest.
        for apart in (0.0, 1.0):
            spoilt = rows.copy()
            for place in range(most + 1):
                spoilt[n - 1 - place] = size * (1 + apart * place)
            beyond = rule(spoilt)
            spoilt[n - 1 - most] = rows[n - 1 - most]
            # The geometric median z: its sum of distances is at most that of 0, where hostile
            # rows are at most |z| nearer, so (n - 2 f) |z| <= 2 (n - f) times the honest norms.
            share = most / n
            limit = 2 * (1 - share) / (1 - 2 * share) * np.sqrt(d)
            assert np.linalg.norm(rule(spoilt)) <= limit
            assert np.abs(beyond).max() >= size / (2 * n)


def test_multi_krum_never_takes_what_lies_too_far_to_be_squared() -> None:
    rows = np.random.default_rng(1).standard_normal((9, 70)).astype(np.float32)
    rows[[2, 5]] = [[3e38], [-3e38]]
    mean, chosen = multi_krum(rows, 2)
    assert np.flatnonzero(~chosen).tolist() == [2, 5]
    assert np.abs(mean).max() < 4


def test_the_geometric_median_forgets_what_lies_too_far_to_be_squared() -> None:
    rows = np.random.default_rng(1).standard_normal((9, 70)).astype(np.float32)
    rows[[2, 5]] = [[3e38], [-3e38]]
    np.testing.assert_allclose(
        geometric_median(rows), geometric_median(np.delete(rows, [2, 5], axis=0)), atol=0.02
    )


# byzfl as oracle


@settings(max_examples=100, deadline=None)
@given(case=attacked(for_half))
def test_the_trimmed_mean_is_that_of_byzfl(byzfl: ModuleType, case: tuple[Rows, int, int]) -> None:
    rows, hostile, most = case
    for cut in {hostile, most}:
        close(trimmed_mean(rows, cut), byzfl.TrMean(cut)(rows.astype(np.float64)), rows, cut)


@settings(max_examples=100, deadline=None)
@given(case=attacked(for_half))
def test_the_median_is_that_of_byzfl(byzfl: ModuleType, case: tuple[Rows, int, int]) -> None:
    """Of numpy arrays; of torch tensors byzfl takes the lower of the middle two."""
    rows, hostile, _ = case
    close(median(rows), byzfl.Median()(rows.astype(np.float64)), rows, hostile)


def close(ours: Any, theirs: Any, rows: Rows, cut: int) -> None:
    """Equal up to one rounding of what was added: all but `cut` values at either end."""
    ordered = np.sort(np.abs(rows), axis=0)
    np.testing.assert_array_less(
        np.abs(ours - theirs), 1e-6 * ordered[len(rows) - 1 - cut] + 1e-30, strict=False
    )


@settings(max_examples=40, deadline=None)
@given(case=attacked(for_half))
def test_the_geometric_median_is_as_near_to_the_rows_as_that_of_byzfl(
    byzfl: ModuleType, case: tuple[Rows, int, int]
) -> None:
    """Both approach the one minimum of the same sum: byzfl from 0, here from the median.

    So the sums are compared: where the minimum is flat, points may differ that are as good. The
    one here may be a little greater, by what a smoothing of a hundredth of a distance costs.
    """
    rows = case[0].astype(np.float64)

    def sum_of_distances(point: Any) -> float:
        return float(np.linalg.norm(rows - point, axis=1).sum())

    theirs = byzfl.GeometricMedian(nu=1e-6, T=300)(rows)
    ours = geometric_median(case[0])
    assert sum_of_distances(ours) <= sum_of_distances(theirs) * (1 + 1e-2)


@settings(max_examples=25, deadline=None)
@given(rows=crowds(least=3, most=8), seed=st.integers(0, 99))
def test_a_weight_of_whole_numbers_counts_as_so_many_rows_do_for_byzfl(
    byzfl: ModuleType, rows: Rows, seed: int
) -> None:
    weights = np.random.default_rng(seed).integers(1, 4, len(rows))
    repeated = np.repeat(rows.astype(np.float64), weights, axis=0)
    theirs = byzfl.GeometricMedian(nu=1e-6, T=300)(repeated)
    ours = geometric_median(rows, weights.astype(np.float64))
    sums = [np.linalg.norm(repeated - point, axis=1).sum() for point in (ours, theirs)]
    assert sums[0] <= sums[1] * (1 + 1e-2)


@settings(max_examples=100, deadline=None)
@given(case=attacked(for_krum, least=5), seed=st.integers(0, 99))
def test_multi_krum_is_that_of_byzfl_told_of_one_more_hostile_row(
    byzfl: ModuleType, case: tuple[Rows, int, int], seed: int
) -> None:
    """byzfl adds the n - f - 1 nearest distances and takes n - f rows.

    The paper adds n - f - 2: what byzfl does for f + 1. So it is told so, and the number of rows
    to take is given.
    """
    rows, _, most = case
    # Rows alike make ties, and there byzfl takes any.
    apart = 1 + 1e-3 * np.random.default_rng(seed).standard_normal(rows.shape)
    rows = (rows * apart).astype(np.float32)
    n = len(rows)
    wide = rows.astype(np.float64)
    mean, chosen = multi_krum(rows, most, chosen=n - most - 1)
    theirs = byzfl.MultiKrum(most + 1)(wide)
    np.testing.assert_allclose(mean, theirs, rtol=1e-5, atol=1e-6 * np.abs(rows[chosen]).max())
    one, chosen = multi_krum(rows, most, chosen=1)
    assert one.tolist() == byzfl.Krum(most + 1)(wide).tolist()
    assert one.tolist() == rows[chosen][0].tolist()
