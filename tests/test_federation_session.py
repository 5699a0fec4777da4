"""The identity of a session: its connections are numbered so that later ones are greater."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from federation.machine import Publish
from federation.session import HIGH_WATER_BYTES, LOW_WATER_BYTES, Identity


def identity(boot: int) -> Identity:
    return Identity("id", ("filter",), lambda n: Publish("will", str(n).encode()), boot)


boots = st.integers(0, 2**28)
connections = st.integers(1, 2**24 - 1)


@given(st.tuples(boots, connections), st.tuples(boots, connections))
def test_a_later_start_or_a_later_connection_has_the_greater_incarnation(
    one: tuple[int, int], other: tuple[int, int]
) -> None:
    numbers = [identity(boot).incarnation(connection) for boot, connection in (one, other)]
    assert (numbers[0] < numbers[1]) == (one < other)
    assert (numbers[0] == numbers[1]) == (one == other)


@given(boots, connections)
def test_an_incarnation_fits_into_a_message(boot: int, connection: int) -> None:
    assert 0 < identity(boot).incarnation(connection) < 2**53


def test_there_is_room_between_the_waters_for_the_largest_chunk() -> None:
    assert 0 < LOW_WATER_BYTES < HIGH_WATER_BYTES - 1024 * 1024
