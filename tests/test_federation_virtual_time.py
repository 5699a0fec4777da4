"""Virtual time: due things happen in order, and the clock reads what they were due at."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from federation.virtual_time import VirtualTime


def run_all(time: VirtualTime) -> None:
    while time.step():
        pass


def test_the_clock_begins_at_zero_and_an_empty_one_does_nothing() -> None:
    time = VirtualTime()
    assert not time.step()
    assert time.now_s == 0.0


@given(st.lists(st.floats(0, 1e6), max_size=30))
@settings(deadline=None)
def test_things_happen_in_the_order_of_their_due_times(due_s: list[float]) -> None:
    time = VirtualTime()
    happened: list[tuple[float, int]] = []
    for number, at_s in enumerate(due_s):
        time.call_at(at_s, lambda n=number: happened.append((time.now_s, n)))  # type: ignore[misc]
    run_all(time)
    # Of equal times the one that was asked for first comes first.
    assert happened == sorted((at_s, n) for n, at_s in enumerate(due_s))


def test_a_delay_counts_from_now() -> None:
    time = VirtualTime()
    read: list[float] = []
    time.call_in(2.0, lambda: time.call_in(3.0, lambda: read.append(time.now_s)))
    run_all(time)
    assert read == [5.0]


def test_what_was_due_in_the_past_happens_now_and_the_clock_never_goes_back() -> None:
    time = VirtualTime()
    read: list[float] = []
    time.call_at(10.0, lambda: time.call_at(3.0, lambda: read.append(time.now_s)))
    run_all(time)
    assert read == [10.0]


def test_running_ends_as_soon_as_it_is_done() -> None:
    time = VirtualTime()
    read: list[float] = []
    for at_s in (1.0, 2.0, 3.0):
        time.call_at(at_s, lambda: read.append(time.now_s))
    assert time.run_until(lambda: len(read) == 2, limit_s=100.0)
    assert read == [1.0, 2.0]


def test_running_leaves_alone_what_is_due_after_the_limit() -> None:
    time = VirtualTime()
    read: list[float] = []
    for at_s in (1.0, 2.0, 2.5):
        time.call_at(at_s, lambda: read.append(time.now_s))
    assert not time.run_until(lambda: False, limit_s=2.0)
    assert read == [1.0, 2.0]
    assert not time.run_until(lambda: False, limit_s=3.0)
    assert read == [1.0, 2.0, 2.5]


def test_running_ends_when_nothing_is_due_any_more() -> None:
    assert not VirtualTime().run_until(lambda: False, limit_s=1.0)


def test_what_is_done_already_takes_no_step() -> None:
    time = VirtualTime()
    time.call_in(1.0, lambda: None)
    assert time.run_until(lambda: True, limit_s=10.0)
    assert time.now_s == 0.0
