"""The vocabulary of a pure core: an event comes in, effects go out, in order.

A core knows no socket, disk, thread, clock or random source. Time and chance come in with each
event as a `Moment`; what a core wants done it returns as effects, which its shell carries out in
order. The events and effects here are those that both roles share; each role adds its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any


@dataclass(frozen=True, slots=True)
class Moment:
    """When an event is handled, and one random number for what has to be spread.

    `now_s` is a monotonic clock of this machine in seconds: only differences mean something.
    `chance` is uniform in [0, 1).
    """

    now_s: float
    chance: float


# Events


@dataclass(frozen=True, slots=True)
class Linked:
    """The session is connected and its standing subscriptions are granted."""

    incarnation: int


@dataclass(frozen=True, slots=True)
class Unlinked:
    """The session lost its connection, or could not make one."""

    reason: str


@dataclass(frozen=True, slots=True)
class Received:
    """A message came in, as the broker handed it over.

    `epoch` is that of the credential it was signed with; None where nothing is signed.
    """

    topic: str
    payload: bytes
    retained: bool = False
    epoch: int | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; the shell sends one when `next_tick_s` of its core is reached."""


@dataclass(frozen=True, slots=True)
class StorageFull:
    """The disk has no room: this effect was not carried out, and nothing of it remains."""

    effect: object


# Effects


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish a small message (QoS 1) or a chunk (QoS 0); dropped while not connected."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False


@dataclass(frozen=True, slots=True)
class Subscribe:
    """Subscribe to exact topics, QoS 0: the retained chunk is the reply."""

    topics: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unsubscribe:
    """Give subscriptions back."""

    topics: tuple[str, ...]


class Level(Enum):
    """How much a log line matters; the value is that of the standard library's logging."""

    DEBUG = 10
    INFO = 20
    WARNING = 30
    ERROR = 40


@dataclass(frozen=True, slots=True)
class Log:
    """A line for the log: what happened, and the facts of it."""

    level: Level
    text: str
    facts: dict[str, Any] = field(default_factory=dict)


def ignored(why: str, topic: str, detail: str) -> Log:
    """The line on a message that was heard in vain; one that is only late is of no interest."""
    level = Level.DEBUG if why == "unexpected message" else Level.WARNING
    return Log(level, f"{why} ignored", {"topic": topic[:100], "detail": detail[:300]})


@dataclass(frozen=True, slots=True)
class Stop:
    """The role cannot or need not go on: end the process with this exit code and line."""

    exit_code: int
    text: str
