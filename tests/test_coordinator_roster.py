"""Who is there: births, wills, farewells, and those that come late."""

from __future__ import annotations

from math import inf

from coordinator.roster import CONFIRM_S, Roster
from tests.specimens import a_birth, a_death, at


def test_a_device_comes_with_its_birth_and_goes_with_its_will() -> None:
    roster = Roster()
    assert roster.heard("one", a_birth(5))
    assert roster.online == {"one": 5}
    assert roster.heard("one", a_death(5))
    assert roster.online == {}


def test_a_birth_that_is_repeated_tells_nothing_new() -> None:
    roster = Roster()
    roster.heard("one", a_birth(5))
    assert not roster.heard("one", a_birth(5))
    assert roster.online == {"one": 5}


def test_the_late_will_of_an_earlier_connection_is_not_believed() -> None:
    roster = Roster()
    roster.heard("one", a_birth(5))
    roster.heard("one", a_birth(6))
    assert not roster.heard("one", a_death(5))
    assert roster.online == {"one": 6}


def test_the_late_birth_of_an_earlier_connection_does_not_make_its_will_believed() -> None:
    roster = Roster()
    roster.heard("one", a_birth(6))
    roster.heard("one", a_birth(5))
    roster.spoke("one", 5)
    assert not roster.heard("one", a_death(5))
    assert roster.online == {"one": 6}


def test_a_birth_that_comes_after_the_will_of_its_connection_is_late() -> None:
    roster = Roster()
    roster.heard("one", a_death(5))
    assert not roster.heard("one", a_birth(5))
    assert not roster.spoke("one", 5)
    assert roster.online == {}
    assert roster.heard("one", a_birth(6))


def test_a_wiped_device_counts_from_the_beginning_again() -> None:
    roster = Roster()
    roster.heard("one", a_birth(900))
    assert not roster.heard("one", a_birth(1, outbox=b"outbox-2"))
    assert roster.online == {"one": 1}
    assert not roster.heard("one", a_death(900)), "the will of what it was before"
    assert roster.heard("one", a_death(1, outbox=b"outbox-2"))


def test_a_device_that_speaks_is_there_though_its_birth_was_lost() -> None:
    roster = Roster()
    assert roster.spoke("one", 5)
    assert not roster.spoke("one", 5)
    assert not roster.heard("one", a_death(4))
    assert roster.heard("one", a_death(5))


def test_after_a_new_link_who_does_not_confirm_counts_as_gone() -> None:
    roster = Roster()
    for device in ("one", "two", "three"):
        roster.heard(device, a_birth(5))
    roster.relinked(at(100))
    roster.heard("two", a_birth(5))
    roster.spoke("three", 5)
    roster.worked("a stranger")
    assert roster.due_s == 100 + CONFIRM_S
    assert roster.expire(at(100 + CONFIRM_S - 1)) == ()
    assert roster.expire(at(100 + CONFIRM_S)) == ("one",)
    assert roster.online == {"two": 5, "three": 5}
    assert roster.due_s == inf


def test_a_device_that_works_on_through_a_new_link_is_still_there() -> None:
    roster = Roster()
    roster.heard("one", a_birth(5))
    roster.relinked(at(100))
    roster.worked("one")
    assert roster.expire(at(100 + CONFIRM_S)) == ()
    assert roster.online == {"one": 5}


def test_a_device_that_was_given_up_may_come_back_on_the_same_connection() -> None:
    roster = Roster()
    roster.heard("one", a_birth(5))
    roster.relinked(at(0))
    roster.expire(at(CONFIRM_S))
    assert roster.heard("one", a_birth(5))


def test_a_coordinator_without_devices_waits_for_nobody() -> None:
    roster = Roster()
    roster.relinked(at(0))
    assert roster.due_s == inf


def test_a_device_that_cannot_train_for_now_is_there_and_not_waited_for() -> None:
    roster = Roster()
    for device in ("one", "two"):
        roster.heard(device, a_birth(5))
    assert roster.pauses("one", "too hot")
    assert not roster.pauses("one", "too hot"), "that is no news"
    assert (set(roster.online), roster.working) == ({"one", "two"}, {"two"})
    assert roster.pauses("one", "")
    assert roster.working == {"one", "two"}


def test_a_pause_ends_with_the_device() -> None:
    roster = Roster()
    roster.heard("one", a_birth(5))
    roster.pauses("one", "on battery")
    roster.gone("one")
    assert roster.paused == {}
