"""Who is invited and there: told of each that comes or goes, it knows as much as who asks all."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from config.settings import Aggregation
from coordinator.cohort import Cohort
from federation.invitation import is_invited
from tests.specimens import accepted

NAMES = [f"device-{n}" for n in range(12)]
HALF = Aggregation(trigger="rounds", fraction=0.5, over_selection=1.0)


@given(st.lists(st.tuples(st.sets(st.sampled_from(NAMES)), st.integers(0, 1), st.integers(0, 1))))
def test_it_knows_who_is_there_from_those_who_moved(
    steps: list[tuple[set[str], int, int]],
) -> None:
    cohort, there, version, draw = Cohort(HALF), set[str](), 0, 0
    for moved, more_version, more_draw in steps:
        there ^= moved
        version, draw = version + more_version, draw + more_draw
        cohort.look(there, moved, version, draw)
        assert cohort.invited == {d for d in there if is_invited(d, version, draw, 0.5)}


def test_whoever_delivered_counts_though_it_is_gone_and_who_is_barred_does_not() -> None:
    cohort = Cohort(Aggregation(trigger="rounds"))
    cohort.look({"a", "b", "c"}, None, 1, 0)
    assert cohort.expected((accepted("gone"), accepted("a")), {"b"}) == 3
    assert cohort.fewest(0) == 3
    assert cohort.fewest(1) == 2


def test_where_nobody_is_waited_for_nobody_is_asked_about() -> None:
    cohort = Cohort(Aggregation(trigger="buffer", buffer_size=7))
    cohort.look(set(NAMES), None, 1, 0)
    assert cohort.invited == set()
    assert cohort.fewest(100) == 7
