"""The session over a real broker: connected again and again, by `paho_connection`.

One thread owns the connection. Each attempt is made with a fresh client, so nothing of a broken
connection is ever sent again by the library: what to repeat is the core's to know. Callbacks only
enqueue. Between attempts it waits with exponential backoff and full jitter (`patience`).
"""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Mapping, Sequence

from config.failures import Failure
from config.settings import Link
from federation.machine import Publish, Received, Unlinked
from federation.paho_connection import Connection
from federation.password import password_of
from federation.patience import reconnect_wait_s
from federation.session import Identity, Inbox, SessionEvent
from federation.tls import tls_context

log = logging.getLogger(__name__)


class PahoSession:
    """A self-mending MQTT 3.1.1 connection with a clean session."""

    def __init__(
        self,
        link: Link,
        identity: Identity,
        inbox: Inbox,
        waiting_bytes: Callable[[], int] = lambda: 0,
    ) -> None:
        """A session that is not started yet.

        Args:
            waiting_bytes: how much was put into the inbox and not taken out yet; while it is too
                much nothing is read, and what a broker sends waits there.
        """
        self._link = link
        self._identity = identity
        self._inbox = inbox
        self._waiting_bytes = waiting_bytes
        self._tls = tls_context(link)
        password_of(link)  # a file that cannot be read is told now, and not by a thread
        self._connection: Connection | None = None
        self._sent_bytes = 0
        self._received_bytes = 0
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._thread.start()

    def publish(self, message: Publish) -> bool:
        """Hand a message to the network thread; False if it was dropped."""
        connection = self._connection
        if connection is None or not connection.publish(message):
            return False
        self._sent_bytes += len(message.payload)
        return True

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe with QoS 0 for the time of this connection."""
        if (connection := self._connection) is not None:
            connection.subscribe([(topic, 0) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give these subscriptions back."""
        if (connection := self._connection) is not None:
            connection.unsubscribe(list(topics))

    @property
    def alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread.is_alive()

    @property
    def backlog_bytes(self) -> int:
        """Bytes of chunks that were handed over and have not left yet."""
        connection = self._connection
        return len(connection.backlog) if connection is not None else 0

    @property
    def disbelieved(self) -> Mapping[str, int]:
        """Nothing: it carries bytes, and asks nobody what they mean."""
        return {}

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of payloads sent and received since the session was made."""
        return self._sent_bytes, self._received_bytes

    def stop(self, farewell: Publish | None = None) -> None:
        """Publish the farewell, disconnect in an orderly way, and end the thread."""
        self._ending.set()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.say_goodbye(farewell)
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        link = self._link
        failures = 0
        connections = 0
        while not self._ending.is_set():
            connections += 1
            self._take_up_certificate()
            connection = Connection(
                link, self._tls, self._identity, connections, self._receive, self._waiting_bytes
            )
            reason = connection.run(self._adopt, self._ending)
            self._connection = None
            if self._ending.is_set():
                return
            failures = 0 if connection.was_of_use() else failures + 1
            held_s = connection.linked_for_s()
            del connection  # its sockets go with it, now and not after the wait
            wait_s = reconnect_wait_s(
                failures, held_s, link.backoff_base_s, link.backoff_cap_s, random.random()
            )
            self._inbox(Unlinked(f"{reason}; trying again in {wait_s:.1f} s"))
            self._ending.wait(wait_s)

    def _take_up_certificate(self) -> None:
        """Show the certificate as it is now: it may have been renewed since the last attempt."""
        if self._link.cert_file is None:
            return
        try:
            self._tls = tls_context(self._link)
        except Failure as failure:  # the one that is held may still do
            log.warning("%s", failure.message)

    def _receive(self, event: SessionEvent) -> None:
        if isinstance(event, Received):
            self._received_bytes += len(event.payload)
        self._inbox(event)

    def _adopt(self, connection: Connection) -> bool:
        # In this order `stop` sees the connection, or this sees that the session is ending.
        self._connection = connection
        return not self._ending.is_set()
