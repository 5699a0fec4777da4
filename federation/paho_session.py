"""The session over a real broker, by paho-mqtt; nothing else imports paho.

One thread owns the connection. Each attempt is made with a fresh client, so nothing of a broken
connection is ever sent again by the library: what to repeat is the core's to know. Callbacks only
enqueue. Between attempts it waits with exponential backoff and full jitter, so that a thousand
agents do not come back in the same second.
"""

from __future__ import annotations

import random
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from config.settings import Link
from federation.machine import Linked, Publish, Received, Unlinked
from federation.session import LOW_WATER_BYTES, Drained, Identity, Inbox, SessionEvent
from federation.tls import tls_context

CONNECT_TIMEOUT_S = 10.0
LOOP_S = 1.0
MAX_IN_FLIGHT = 100
MAX_QUEUED = 60_000
STABLE_S = 5.0


class PahoSession:
    """A self-mending MQTT 3.1.1 connection with a clean session."""

    def __init__(self, link: Link, identity: Identity, inbox: Inbox) -> None:
        self._link = link
        self._identity = identity
        self._inbox = inbox
        self._tls = tls_context(link)
        self._connection: _Connection | None = None
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
            connection.client.subscribe([(topic, 0) for topic in topics])

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give these subscriptions back."""
        if (connection := self._connection) is not None:
            connection.client.unsubscribe(list(topics))

    @property
    def alive(self) -> bool:
        """Whether the network thread runs."""
        return self._thread.is_alive()

    @property
    def backlog_bytes(self) -> int:
        """Bytes of chunks that were handed over and have not left yet."""
        connection = self._connection
        return connection.backlog_bytes() if connection is not None else 0

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
        attempts = 0
        connections = 0
        while not self._ending.is_set():
            connections += 1
            connection = _Connection(
                self._link, self._tls, self._identity, connections, self._receive
            )
            reason = connection.run(self._adopt, self._ending)
            self._connection = None
            if self._ending.is_set():
                return
            # A connection that held for a moment starts the backoff anew.
            attempts = 0 if connection.linked_for_s() >= STABLE_S else attempts
            del connection  # its sockets go with it, now and not after the wait
            longest_s = self._link.backoff_base_s * 2 ** min(attempts, 20)
            wait_s = random.uniform(0, min(self._link.backoff_cap_s, longest_s))
            attempts += 1
            self._inbox(Unlinked(f"{reason}; trying again in {wait_s:.1f} s"))
            self._ending.wait(wait_s)

    def _receive(self, event: SessionEvent) -> None:
        if isinstance(event, Received):
            self._received_bytes += len(event.payload)
        self._inbox(event)

    def _adopt(self, connection: _Connection) -> bool:
        # In this order `stop` sees the connection, or this sees that the session is ending.
        self._connection = connection
        return not self._ending.is_set()


class _Connection:
    """One attempt to connect, and what came of it; its client is never used again."""

    def __init__(
        self,
        link: Link,
        tls: ssl.SSLContext | None,
        identity: Identity,
        number: int,
        inbox: Inbox,
    ) -> None:
        self._link = link
        self._filters = identity.filters
        self._incarnation = identity.incarnation(number)
        self._inbox = inbox
        self._began_s = time.monotonic()
        self._linked_s: float | None = None
        self._reason = ""
        self._lock = threading.Lock()
        self._bulk: deque[tuple[mqtt.MQTTMessageInfo, int]] = deque()
        self._bulk_bytes = 0
        self._adopt: Callable[[_Connection], bool] = lambda _: False
        self.client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=identity.client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        client.connect_timeout = CONNECT_TIMEOUT_S
        client.max_inflight_messages_set(MAX_IN_FLIGHT)
        client.max_queued_messages_set(MAX_QUEUED)
        will = identity.will(self._incarnation)
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        if link.username is not None:
            password = link.password.get_secret_value() if link.password else None
            client.username_pw_set(link.username, password)
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _send_at_once
        # With this set, other threads never write to the socket: paho only wakes its own loop.
        client.on_socket_register_write = lambda *_: None

    def run(self, adopt: Callable[[_Connection], bool], ending: threading.Event) -> str:
        """Connect and carry messages until the connection ends; the reason why it did.

        Args:
            adopt: told once that the connection can be used; False if nobody wants it any more.
            ending: once set, an attempt that has not come so far is given up.
        """
        self._adopt = adopt
        where = f"{self._link.host}:{self._link.port}"
        try:
            self.client.connect(self._link.host, self._link.port, self._link.keepalive_s)
        except (OSError, ValueError) as error:
            return f"no broker at {where} ({error})"
        reason = self._carry(ending)
        self._let_go()
        return f"connection to {where} ended ({reason})"

    def _carry(self, ending: threading.Event) -> str:
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and not self._overdue():
            if self._linked_s is None and ending.is_set():
                break
            try:
                code = self.client.loop(LOOP_S)
            except (struct.error, IndexError, KeyError, ValueError) as error:
                # Some releases of paho fall over bytes that are no MQTT.
                return f"what came is no MQTT: {type(error).__name__}: {error}"
        return self._reason or mqtt.error_string(code)

    def _let_go(self) -> None:
        """Undo the cycle between this and its client, so that its sockets are closed at once."""
        client = self.client
        client.on_connect = client.on_subscribe = client.on_message = None
        client.on_publish = client.on_disconnect = None

    def publish(self, message: Publish) -> bool:
        """Queue a message for the network thread; False if the queue is full or the link gone."""
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain)
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if message.qos == 0:
            with self._lock:
                self._bulk.append((info, len(message.payload)))
                self._bulk_bytes += len(message.payload)
        return True

    def backlog_bytes(self, leaving: int | None = None) -> int:
        """Bytes of QoS 0 messages that have not left yet, without the one that leaves just now."""
        with self._lock:
            while self._bulk and (
                self._bulk[0][0].is_published() or self._bulk[0][0].mid == leaving
            ):
                self._bulk_bytes -= self._bulk.popleft()[1]
            return self._bulk_bytes

    def linked_for_s(self) -> float:
        """How long the connection has been of use, in seconds."""
        return 0.0 if self._linked_s is None else time.monotonic() - self._linked_s

    def say_goodbye(self, farewell: Publish | None) -> None:
        """Let the farewell leave, then disconnect so that the broker keeps the will back."""
        if farewell is not None:
            info = self.client.publish(
                farewell.topic, farewell.payload, farewell.qos, farewell.retain
            )
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(timeout=1.0)
        self.client.disconnect()

    def _overdue(self) -> bool:
        waiting_s = time.monotonic() - self._began_s
        if self._linked_s is None and waiting_s > 2 * CONNECT_TIMEOUT_S:
            self._reason = self._reason or "the broker does not answer"
            return True
        return False

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        if code.is_failure:
            self._reason = f"the broker refused: {code}"
        else:
            client.subscribe([(topic, 1) for topic in self._filters])

    def _on_subscribe(
        self, _client: mqtt.Client, _data: Any, _mid: int, codes: Sequence[Any], _properties: Any
    ) -> None:
        if self._linked_s is not None:
            return
        if any(code.is_failure for code in codes):
            self._reason = f"the broker refused to let us read {', '.join(self._filters)}"
            self.client.disconnect()
            return
        self._linked_s = time.monotonic()
        if self._adopt(self):
            self._inbox(Linked(self._incarnation))
        else:
            self.client.disconnect()

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = "\ufffd"
        self._inbox(Received(topic, bytes(message.payload), bool(message.retain)))

    def _on_publish(
        self, _client: mqtt.Client, _data: Any, mid: int, _code: Any, _properties: Any
    ) -> None:
        # paho marks a message as published only after this call.
        if self._bulk and self.backlog_bytes(leaving=mid) < LOW_WATER_BYTES:
            self._inbox(Drained())

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        self._reason = self._reason or str(code)


def _send_at_once(_client: mqtt.Client, _data: Any, link: Any) -> None:
    # Otherwise a small message waits for the acknowledgement of the last one, 40 ms.
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
