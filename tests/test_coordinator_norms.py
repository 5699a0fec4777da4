"""The bound that no minority of devices can choose, and what is shortened to it."""

from __future__ import annotations

from math import inf
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Aggregation
from coordinator.norms import FEWEST, WINDOW, Norms, clip
from coordinator.trigger import contribution
from tests.specimens import accepted

HONEST = [(f"honest-{n}", 1.0 + n / 10) for n in range(8)]
norms = st.floats(1e-6, 1e12)


def test_before_three_devices_have_sent_something_nothing_is_known() -> None:
    known = Norms([("a", 1.0), ("a", 2.0), ("b", 3.0)])
    assert known.median() is None
    known.add("c", 5.0)
    assert known.median() == 3.0


def test_a_device_has_one_say_however_often_it_sends() -> None:
    known = Norms(HONEST)
    before = known.median()
    for _ in range(1000):
        known.add("honest-7", 1e9)
    assert known.median() == before


@given(st.lists(st.tuples(st.integers(0, 6), norms), max_size=200))
def test_a_minority_keeps_the_bound_within_what_honest_devices_send(
    sent: list[tuple[int, float]],
) -> None:
    known = Norms(HONEST)
    for number, norm in sent:
        known.add(f"hostile-{number}", norm)
    bound = known.median()
    assert bound is not None
    assert 1.0 <= bound <= 1.7


def test_updates_of_norm_zero_do_not_drag_the_bound_down() -> None:
    known = Norms(HONEST)
    before = known.median()
    for n in range(50):
        known.add(f"lazy-{n}", 0.0)
    assert known.median() == before


def test_the_devices_that_sent_last_are_remembered() -> None:
    known = Norms((f"device-{n}", float(n + 1)) for n in range(WINDOW + 50))
    assert known.median() == 50 + (WINDOW + 1) / 2


def test_devices_in_quarantine_have_no_say() -> None:
    known = Norms([*HONEST[:3], ("hostile", 50.0), ("other", 60.0)])
    assert known.median() == 1.2
    assert known.median(without=frozenset({"hostile", "other"})) == 1.1


@given(norms, norms)
def test_nothing_is_longer_than_the_bound_afterwards_and_nothing_grows(
    norm: float, bound: float
) -> None:
    by = clip(norm, bound)
    assert 0 < by <= 1
    assert norm * by <= bound * (1 + 1e-12)
    assert clip(norm, inf) == 1
    assert clip(norm, None) == 1


def test_only_the_clipped_mean_clips_and_it_does_so_by_the_scale() -> None:
    update = accepted("a", base=0, norm=8.0)
    rule = Aggregation(clip_factor=2.0)
    clipped = contribution(rule, update, 3, median_norm=1.0)
    assert (clipped.clip, clipped.scale) == (0.25, 0.25 * 0.5), "staleness 3 makes it a half"
    for combine in ("mean", "median", "multi_krum"):
        plain = contribution(Aggregation(combine=combine), update, 3, median_norm=1.0)
        assert (plain.clip, plain.scale) == (1.0, 0.5)


@pytest.mark.parametrize("median_norm", [None, 8.0, 9.0])
def test_an_update_within_the_bound_is_left_as_it_is(median_norm: float | None) -> None:
    part = contribution(Aggregation(), accepted("a", norm=8.0), 0, median_norm)
    assert (part.clip, part.scale) == (1.0, 1.0)


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from([1.0, 2.0, 2.0, 3.5, 7.0])), max_size=60),
    st.frozensets(st.integers(0, 9)),
)
def test_the_median_is_that_of_what_devices_sent_last(
    sent: list[tuple[int, float]], left_out: frozenset[int]
) -> None:
    known = Norms((str(number), norm) for number, norm in sent)
    latest = [norm for number, norm in dict(sent).items() if number not in left_out]
    expected = median(latest) if len(latest) >= FEWEST else None
    assert known.median(without=frozenset(map(str, left_out))) == expected
