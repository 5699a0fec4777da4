"""When a version comes about, and of which updates."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from config.settings import Aggregation
from coordinator.trigger import candidates, chosen, deadline_s
from tests.specimens import accepted

THREE = tuple(accepted(device) for device in ("a", "b", "c"))


def rule(trigger: str, **fields: Any) -> Aggregation:
    return Aggregation(**{"trigger": trigger, **fields})


def test_a_device_contributes_once_to_a_version_with_its_first_update() -> None:
    buffer = [accepted("a", 0), accepted("a", 1), accepted("b", 0), accepted("a", 2)]
    assert candidates(buffer) == (buffer[0], buffer[2])


def test_immediate_takes_one_update_at_a_time() -> None:
    assert chosen(rule("immediate"), THREE, cohort=9, overdue=False) == THREE[:1]
    assert chosen(rule("immediate"), (), cohort=9, overdue=True) == ()


def test_a_buffer_waits_until_it_is_full() -> None:
    assert chosen(rule("buffer", buffer_size=4), THREE, cohort=3, overdue=False) == ()
    assert chosen(rule("buffer", buffer_size=3), THREE, cohort=3, overdue=False) == THREE


def test_a_buffer_takes_no_more_than_it_holds() -> None:
    assert chosen(rule("buffer", buffer_size=2), THREE, cohort=3, overdue=False) == THREE[:2]


def test_an_overdue_buffer_takes_what_is_there_if_it_is_enough() -> None:
    overdue = rule("buffer", buffer_size=9, min_updates=3)
    assert chosen(overdue, THREE, cohort=3, overdue=True) == THREE
    assert chosen(overdue, THREE[:2], cohort=3, overdue=True) == ()


@pytest.mark.parametrize("trigger", ["buffer", "rounds"])
def test_nothing_is_made_of_no_update_however_late_it_is(trigger: str) -> None:
    assert chosen(rule(trigger), (), cohort=0, overdue=True) == ()


def test_a_round_waits_for_its_whole_cohort() -> None:
    assert chosen(rule("rounds"), THREE, cohort=4, overdue=False) == ()
    assert chosen(rule("rounds"), THREE, cohort=3, overdue=False) == THREE


def test_an_over_selected_round_is_content_with_fewer_and_takes_all_that_came() -> None:
    # 4 invited / 2 = 2 are enough; the third came too and is not thrown away.
    assert chosen(rule("rounds", over_selection=2.0), THREE, 4, overdue=False) == THREE
    # 7 / 2 is rounded up to 4.
    assert chosen(rule("rounds", over_selection=2.0), THREE, 7, overdue=False) == ()


def test_a_round_never_ends_early_with_fewer_than_min_updates() -> None:
    assert chosen(rule("rounds", min_updates=4), THREE, cohort=3, overdue=False) == ()
    assert chosen(rule("rounds", min_updates=4), THREE, cohort=3, overdue=True) == ()
    assert chosen(rule("rounds", min_updates=3), THREE, cohort=9, overdue=True) == THREE


def test_the_deadline_counts_from_the_round_or_from_the_first_update() -> None:
    assert deadline_s(rule("rounds", deadline_s=10), began_s=5, first_s=7) == 15
    assert deadline_s(rule("buffer", deadline_s=10), began_s=5, first_s=7) == 17
    assert deadline_s(rule("buffer", deadline_s=10), began_s=5, first_s=inf) == inf


def test_there_may_be_no_deadline() -> None:
    assert deadline_s(rule("rounds", deadline_s=None), began_s=5, first_s=7) == inf
    assert deadline_s(rule("immediate", deadline_s=10), began_s=5, first_s=7) == inf
