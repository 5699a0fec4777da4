"""Incarnations: one number for each connection of each start of a party; later ones are greater.

The start (`boot`, counted on the party's own disk) stands in the high bits, the connection of that
start in the low 24.
"""

from __future__ import annotations

_CONNECTION_BITS = 24


def incarnation(boot: int, connection: int) -> int:
    """The number of the n-th connection of the n-th start."""
    return (boot << _CONNECTION_BITS) + connection


def is_of_earlier_start(number: int, boot: int) -> bool:
    """Whether an incarnation is of a start before this one."""
    return number < incarnation(boot, 0)


def last_of_start(boot: int) -> int:
    """The greatest incarnation that a start can have: for its farewell."""
    return incarnation(boot + 1, 0) - 1
