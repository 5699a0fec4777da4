"""What a role asks of its link to the broker, whatever carries it.

A session keeps itself connected, in its own time, and tells what happens by putting events into
the inbox of its shell: `Linked`, `Unlinked`, `Received`, `Drained`. It promises no delivery: what
is published while there is no connection is dropped, and the cores know how to begin again.
Two implementations: `paho_session` for a real broker, `loopback` for many roles in virtual time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from federation.incarnation import incarnation
from federation.machine import Linked, Publish, Received, Unlinked


@dataclass(frozen=True, slots=True)
class Drained:
    """What was published has left: there is room for more bulk."""


SessionEvent: TypeAlias = Linked | Unlinked | Received | Drained
Inbox: TypeAlias = Callable[[SessionEvent], None]

# Bulk is published while the backlog is under the high water, and again from the low water on.
LOW_WATER_BYTES = 512 * 1024
HIGH_WATER_BYTES = 2 * 1024 * 1024
# While so much was received and not taken out of the inbox, no more is read from the link.
MOST_WAITING_BYTES = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a session is for.

    Attributes:
        client_id: MQTT client id; a broker takes the older of two connections down.
        filters: standing subscriptions, granted before `Linked` is told.
        will: from the number of a connection to the message that the broker publishes if it
            breaks; the number makes a late will of an earlier connection recognizable.
        boot: how often this identity was started, from its own disk.
    """

    client_id: str
    filters: tuple[str, ...]
    will: Callable[[int], Publish]
    boot: int

    def incarnation(self, connection: int) -> int:
        """One number for the n-th connection of the n-th start: later ones are greater."""
        return incarnation(self.boot, connection)


class Session(Protocol):
    """A link to a broker that mends itself."""

    def start(self) -> None:
        """Begin to connect; returns at once."""

    def publish(self, message: Publish) -> bool:
        """Hand a message over; False if it was dropped, as there is no connection."""

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to exact topics for the time of this connection."""

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give these subscriptions back."""

    @property
    def alive(self) -> bool:
        """Whether what carries the link runs; a link that is down mends itself."""

    @property
    def backlog_bytes(self) -> int:
        """Bytes that were published and have not left yet; `Drained` tells when they have."""

    @property
    def disbelieved(self) -> Mapping[str, int]:
        """How many messages were not handed on as nobody vouched for them, by the reason."""

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of payloads sent and received since the session was made."""

    def stop(self, farewell: Publish | None = None) -> None:
        """Say goodbye, with a last message if there is one, and end."""
