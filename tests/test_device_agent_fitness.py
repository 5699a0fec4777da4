"""When a device looks at its machine, and when it is alone for long."""

from __future__ import annotations

from math import inf

import pytest

from device_agent.fitness import LOOK_EVERY_S, Fitness
from device_agent.solitude import Solitude
from device_agent.vocabulary import Look, Looked
from tests.specimens import at


def test_a_device_that_has_nothing_to_do_does_not_look() -> None:
    fitness = Fitness()
    assert fitness.advance(False, at(5)) == []
    assert fitness.due_s == inf


def test_before_it_trains_it_looks_once_and_waits_for_what_is_found() -> None:
    fitness = Fitness()
    assert not fitness.may_train(at(5))
    assert fitness.advance(True, at(5)) == [Look(was_hindered=False)]
    assert fitness.advance(True, at(60)) == [], "the answer is on its way"
    assert fitness.due_s == inf
    fitness.looked(Looked(""), at(60))
    assert fitness.may_train(at(60))
    assert not fitness.may_train(at(60 + 2 * LOOK_EVERY_S)), "what was seen is old"


def test_while_it_trains_it_looks_again_and_again() -> None:
    fitness = Fitness()
    fitness.advance(True, at(0))
    fitness.looked(Looked(""), at(1))
    assert fitness.advance(True, at(2)) == []
    assert fitness.due_s == 1 + LOOK_EVERY_S
    assert fitness.advance(True, at(1 + LOOK_EVERY_S)) == [Look(was_hindered=False)]


def test_what_hinders_is_looked_at_until_it_is_over_though_there_is_nothing_to_do() -> None:
    fitness = Fitness()
    fitness.advance(True, at(0))
    fitness.looked(Looked("too hot: 80 °C, at most 70"), at(0))
    assert (fitness.may_train(at(1)), fitness.paused) == (False, "too hot")
    assert fitness.advance(False, at(LOOK_EVERY_S)) == [Look(was_hindered=True)]
    fitness.looked(Looked(""), at(LOOK_EVERY_S))
    assert fitness.paused == ""
    assert fitness.advance(False, at(3 * LOOK_EVERY_S)) == []


def test_alone_is_told_by_its_length() -> None:
    alone = Solitude(60)
    assert alone.due_s == inf
    alone.begins(at(10))
    alone.begins(at(50))
    assert alone.due_s == 70, "counted from the beginning"
    alone.advance(at(69))
    assert not alone.is_long
    alone.advance(at(70))
    assert (alone.is_long, alone.due_s) == (True, inf)


@pytest.mark.parametrize("now_s", [20, 100])
def test_who_is_heard_ends_it(now_s: float) -> None:
    alone = Solitude(60)
    alone.begins(at(10))
    alone.advance(at(now_s))
    alone.ends()
    alone.advance(at(1000))
    assert (alone.is_long, alone.due_s) == (False, inf)


def test_who_is_told_to_wait_is_never_alone_for_long() -> None:
    alone = Solitude(inf)
    alone.begins(at(0))
    alone.advance(at(1e9))
    assert not alone.is_long
