"""What somebody is woken for, and how often."""

from __future__ import annotations

from coordinator.alarms import MOST, WITHIN_S, Alarms
from tests.story import evaluation, quarantine


def heard(alarms: Alarms, *accuracies: float) -> list[str]:
    rows = (evaluation(n, accuracy) for n, accuracy in enumerate(accuracies))
    return [alarm.text for row in rows if (alarm := alarms.take(row)) is not None]


def test_a_fall_below_the_best_is_told_with_both_versions() -> None:
    assert heard(Alarms(0.1), 0.5, 0.45, 0.35) == ["35.0% at version 2, 50.0% at version 0"]


def test_less_than_that_is_no_fall() -> None:
    assert heard(Alarms(0.1), 0.5, 0.41, 0.42) == []


def test_a_fall_is_told_once() -> None:
    assert len(heard(Alarms(0.1), 0.5, 0.3, 0.2, 0.35, 0.42, 0.3)) == 1


def test_after_a_recovery_the_next_fall_is_told() -> None:
    assert len(heard(Alarms(0.1), 0.5, 0.3, 0.46, 0.3)) == 2


def test_falls_can_be_left_out() -> None:
    assert heard(Alarms(None), 0.9, 0.1) == []


def test_a_quarantine_is_told_with_its_reason() -> None:
    alarm = Alarms(None).take(quarantine("one", 3))
    assert alarm is not None
    assert alarm.title == "one is in quarantine"
    assert alarm.text == "at version 3, by rule: wild"


def test_a_title_is_as_short_as_it_has_to_be() -> None:
    alarm = Alarms(None).take(quarantine("d" * 40, 3))
    assert alarm is not None
    assert len(alarm.title) < 64


def test_to_be_let_out_is_no_alarm() -> None:
    assert Alarms(None).take(quarantine("one", 3, quarantined=False)) is None


def test_of_many_alarms_the_first_are_told_and_then_how_many_there_were() -> None:
    alarms = Alarms(None)
    at_once = [alarms.take(quarantine(f"device-{n}", 3)) for n in range(MOST + 3)]
    assert [alarm is not None for alarm in at_once] == [True] * MOST + [False] * 3
    later = alarms.take(quarantine("late", 3) | {"time_s": 1.0 + WITHIN_S})
    assert later is not None
    assert later.text.endswith("(and 3 alarms before it were not told)")


def test_a_new_start_with_its_clock_at_zero_may_tell_again() -> None:
    alarms = Alarms(None)
    for n in range(MOST):
        alarms.take(quarantine(f"device-{n}", 3) | {"time_s": 1e6})
    alarms.begin()
    assert alarms.take(quarantine("late", 3)) is not None


def test_a_test_without_an_accuracy_is_no_alarm() -> None:
    assert Alarms(0.1).take({"kind": "evaluation", "time_s": 1.0, "version": 1}) is None
