"""When a link is asked for a sign of life, when it is given up, and how long is waited then."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from config.settings import Link
from federation.patience import Pulse, reconnect_wait_s

KEEPALIVE_S = 10.0


def first_waits(count: int, seed: int, held_s: float = 3600.0) -> list[float]:
    chance, link = random.Random(seed), Link()
    return [
        reconnect_wait_s(0, held_s, link.backoff_base_s, link.backoff_cap_s, chance.random())
        for _ in range(count)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_agents_that_lost_a_broker_do_not_come_back_in_the_same_second(
    seed: int,
) -> None:
    waits = first_waits(1000, seed)
    fullest = max(Counter(int(wait) for wait in waits).values())
    assert fullest <= 250
    assert max(waits) <= 5, "and one alone is back in seconds"


def test_the_longest_wait_doubles_from_the_base_up_to_the_cap() -> None:
    longest = [reconnect_wait_s(n, 0.0, 1.0, 10.0, 1.0) for n in (1, 2, 3, 4, 5, 6, 10_000)]
    assert longest == [1, 2, 4, 8, 10, 10, 10]


def test_all_of_a_wait_is_left_to_chance() -> None:
    assert [reconnect_wait_s(3, 0.0, 1.0, 10.0, chance) for chance in (0.0, 0.5, 0.75)] == [0, 2, 3]


def test_who_was_linked_for_a_moment_is_back_in_half_that_moment() -> None:
    assert max(first_waits(1000, seed=0, held_s=2.0)) <= 1.0


def test_a_link_on_which_bytes_come_and_leave_is_not_asked() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    for now_s in range(1, 100):
        pulse.came(now_s)
        pulse.left(now_s)
        assert not pulse.is_question_due(now_s)


@pytest.mark.parametrize("silent", ["came", "left"])
def test_a_question_is_due_after_half_a_keepalive_without_a_byte_one_way(silent: str) -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    for now_s in (1.0, 2.0, 3.0, 4.0, 4.9):
        (pulse.came if silent == "left" else pulse.left)(now_s)
        assert not pulse.is_question_due(now_s)
    assert pulse.is_question_due(5.0)


def test_one_question_is_asked_at_a_time_and_the_next_half_a_keepalive_after_the_answer() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    pulse.asked(5.0)
    assert not pulse.is_question_due(14.0)
    pulse.came(6.0)
    assert not pulse.is_question_due(9.9)
    assert pulse.is_question_due(10.0)


def test_an_idle_link_is_given_up_after_one_and_a_half_keepalives() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    assert not pulse.is_gone(1000.0), "nobody was asked"
    pulse.asked(5.0)
    pulse.left(5.1)
    pulse.emptied()
    assert not pulse.is_gone(15.0)
    assert pulse.is_gone(15.2)


def test_a_link_that_stalls_in_mid_upload_is_given_up() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    pulse.left(3.0)
    pulse.asked(5.0)  # behind what is to leave, and nothing leaves
    assert not pulse.is_gone(14.9)
    assert pulse.is_gone(15.0)


def test_a_link_on_which_bytes_still_leave_before_the_question_is_not_given_up() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    pulse.asked(5.0)
    for now_s in range(6, 200):
        pulse.left(now_s)
        assert not pulse.is_gone(now_s)
    assert pulse.is_gone(199.0 + KEEPALIVE_S)


def test_a_link_on_which_bytes_still_come_before_the_answer_is_not_given_up() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    for now_s in range(1, 200):
        pulse.came(now_s)
        if pulse.is_question_due(now_s):
            pulse.asked(now_s)
        assert not pulse.is_gone(now_s)


def test_bytes_that_leave_after_the_question_are_no_answer_to_it() -> None:
    pulse = Pulse(KEEPALIVE_S, 0.0)
    pulse.asked(5.0)
    pulse.left(5.1)
    pulse.emptied()
    for now_s in range(6, 15):
        pulse.left(now_s)
    assert pulse.is_gone(15.1)


def test_an_idle_link_need_not_be_looked_at_before_a_question_is_due() -> None:
    pulse = Pulse(30, 0)
    assert pulse.due_s == 15
    pulse.came(10)
    assert pulse.due_s == 15, "nothing left since"
    pulse.left(12)
    assert pulse.due_s == 25
    pulse.asked(25)
    assert pulse.due_s == 0, "its answer is waited for"
