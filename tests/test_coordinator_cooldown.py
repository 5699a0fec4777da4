"""Who has to wait for how many versions, and when nobody has to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.settings import Aggregation
from coordinator.cooldown import LONGEST_WAIT_S, Cooldown, longest
from tests.specimens import at


def cooldown(fleet: int = 10, last: dict[str, int] | None = None, **rule: Any) -> Cooldown:
    """One on whose clock a version took ten seconds until now, which is 100."""
    made = Cooldown(Aggregation(**{"trigger": "immediate", **rule}), last or {})
    made.count(fleet)
    made.begin(at(90))
    made.made(1, [], at(100))
    return made


@pytest.mark.parametrize(
    ("rule", "fleet", "expected"),
    [
        ({"trigger": "buffer", "buffer_size": 10}, 19, 0),
        ({"trigger": "buffer", "buffer_size": 10}, 20, 1),
        ({"trigger": "buffer", "buffer_size": 10}, 100, 5),
        ({"trigger": "immediate"}, 1, 0),
        ({"trigger": "immediate"}, 10, 5),
        ({"trigger": "immediate", "max_staleness": 50}, 1000, 20),
        ({"trigger": "immediate", "max_staleness": 20}, 1000, 10),
        ({"trigger": "rounds"}, 1000, 0),
        ({"trigger": "immediate", "cooldown": 7}, 100, 7),
        ({"trigger": "immediate", "cooldown": 7}, 5, 4),
        ({"trigger": "buffer", "buffer_size": 4, "cooldown": 7}, 3, 0),
        ({"trigger": "rounds", "fraction": 0.25, "cooldown": 7}, 100, 3),
    ],
)
def test_how_long_it_is(rule: dict[str, Any], fleet: int, expected: int) -> None:
    assert longest(Aggregation(**rule), fleet) == expected


@given(
    fleet=st.integers(0, 500),
    size=st.integers(1, 50),
    trigger=st.sampled_from(["buffer", "immediate"]),
    by_hand=st.none() | st.integers(0, 1000),
)
def test_enough_devices_for_a_version_are_always_free(
    fleet: int, size: int, trigger: str, by_hand: int | None
) -> None:
    rule = Aggregation(
        trigger=trigger, buffer_size=size, cooldown=by_hand, max_staleness=10_000, min_updates=1
    )
    each = size if trigger == "buffer" else 1
    cooling = longest(rule, fleet) * each
    assert cooling == 0 or fleet - cooling >= each
    if by_hand is None:
        assert cooling <= fleet / 2


def test_a_device_sits_out_as_many_versions_as_the_cooldown_is_long() -> None:
    made = cooldown(cooldown=3)
    made.made(2, ["a"], at(110))
    for newest, left in ((2, 3), (3, 2), (4, 1), (5, 0)):
        assert made.left("a", newest + 1) == left
        assert made.barred(("a", "b"), newest + 1, at(111)) == ({"a"} if left else set())


def test_a_device_is_asked_again_when_its_turn_is_likely_to_have_come() -> None:
    made = cooldown(cooldown=3)
    made.made(2, ["a"], at(110))
    assert made.wait_s("a", False, 3, at(111)) == 30
    assert made.wait_s("a", False, 5, at(111)) == 10
    assert made.wait_s("a", False, 6, at(111)) is None
    assert made.wait_s("b", False, 3, at(111)) is None


def test_a_device_whose_update_waits_keeps_the_next_one() -> None:
    made = cooldown(cooldown=3)
    assert made.wait_s("b", True, 2, at(101)) == 40
    assert cooldown(cooldown=0).wait_s("b", True, 2, at(101)) is None


def test_nobody_is_asked_to_wait_for_longer_than_a_minute() -> None:
    made = cooldown(fleet=1000, cooldown=900)
    made.made(2, ["a"], at(110))
    assert made.wait_s("a", False, 3, at(111)) == LONGEST_WAIT_S


def test_it_gives_way_when_a_version_takes_ten_times_as_long_as_others() -> None:
    made = cooldown(cooldown=3, deadline_s=None)
    made.made(2, ["a"], at(110))
    assert made.gives_way_s == 210
    assert made.barred(("a",), 3, at(209)) == {"a"}
    assert made.barred(("a",), 3, at(210)) == set()


def test_it_gives_way_at_the_deadline() -> None:
    made = cooldown(cooldown=3, deadline_s=30)
    made.made(2, ["a"], at(110))
    assert made.gives_way_s == 140


def test_before_a_version_was_timed_it_gives_way_in_the_end_too() -> None:
    made = Cooldown(Aggregation(trigger="immediate", deadline_s=None, cooldown=3), {"a": 5})
    made.count(10)
    made.begin(at(0))
    assert made.barred(("a",), 6, at(1)) == {"a"}
    assert made.barred(("a",), 6, at(made.gives_way_s)) == set()


def test_having_given_way_it_is_half_as_long_and_grows_again_slowly() -> None:
    made = cooldown(fleet=100, cooldown=8, deadline_s=None)
    made.made(2, ["a"], at(110))
    made.barred(("a",), 3, at(1000))
    made.made(3, ["a"], at(1000))
    assert made.versions == 4
    assert made.gives_way_s == 1100, "how long that version took is not taken for usual"
    for version in range(4, 4 + 21):
        made.made(version, [], at(1000 + version))
    assert made.versions == 5


def test_a_late_version_for_which_nobody_had_to_be_let_in_changes_nothing() -> None:
    made = cooldown(cooldown=3)
    made.made(2, ["a"], at(9000))
    assert made.versions == 3


def test_devices_that_were_in_no_version_for_long_are_forgotten() -> None:
    made = cooldown(last={f"device-{n}": 0 for n in range(100)})
    made.made(500, ["a"], at(110))
    assert made._last == {"a": 500}
