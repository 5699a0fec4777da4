"""The credit that all uploads share: what is lent, who waits, and what is taken back."""

from __future__ import annotations

from math import inf

from coordinator.credit import LENT_S, Credit
from tests.specimens import at


def spent() -> Credit:
    """One of 100 bytes, all lent to the device a."""
    credit = Credit(100)
    credit.asked("a", 100, at(10))
    return credit


def test_nobody_waits_while_there_is_credit() -> None:
    credit = Credit(100)
    credit.asked("a", 99, at())
    assert not credit.is_spent
    assert credit.due_s == inf


def test_who_finds_it_spent_is_next_as_soon_as_something_came() -> None:
    credit = spent()
    assert credit.is_spent
    credit.wait("b")
    credit.wait("c")
    credit.wait("b")
    assert credit.next(at(11)) is None
    credit.sent("a", 60)
    assert [credit.next(at(11)) for _ in range(3)] == ["b", "c", None]


def test_what_was_lent_to_a_silent_device_is_lent_anew_after_a_while() -> None:
    credit = spent()
    credit.asked("b", 50, at(11))
    credit.wait("c")
    assert credit.due_s == 10 + LENT_S
    assert credit.next(at(10 + LENT_S - 0.1)) is None
    assert credit.next(at(10 + LENT_S)) == "c"
    credit.sent("a", 0)
    credit.asked("c", 49, at(12))
    assert not credit.is_spent, "a owes nothing any more, b and c 99"


def test_what_a_device_sends_does_not_make_its_debt_younger() -> None:
    credit = spent()
    credit.wait("b")
    credit.sent("a", 100)
    assert credit.next(at(10 + LENT_S)) == "b"


def test_who_is_done_owes_nothing_and_does_not_wait() -> None:
    credit = spent()
    credit.wait("b")
    credit.done("b")
    credit.done("a")
    credit.done("nobody")
    assert credit.next(at(11)) is None
    credit.asked("c", 100, at(11))
    assert credit.is_spent, "a's debt was taken off once"
