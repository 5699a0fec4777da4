"""One attempt to connect to a broker by paho-mqtt, and what comes of it; nothing else imports paho.

The loop around the socket is our own. paho's gives up a link that is slow, when the answer to a
ping waits behind other bytes; this one asks `patience.Pulse`, and tells it what moves.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from config.settings import Link
from federation.kernel import send_at_once, unacknowledged_bytes
from federation.machine import Linked, Publish, Received
from federation.password import password_of
from federation.patience import Pulse
from federation.session import LOW_WATER_BYTES, MOST_WAITING_BYTES, Drained, Identity, Inbox

CONNECT_TIMEOUT_S = 10.0
LOOP_S = 1.0
PAUSE_S = 0.02
MAX_IN_FLIGHT = 100
MAX_QUEUED = 60_000
# A connection that held so long, or carried so much, was of use.
STABLE_S = 0.5
WORTH_BYTES = 64 * 1024


class Connection:
    """One attempt to connect, and what came of it; its client is never used again."""

    def __init__(
        self,
        link: Link,
        tls: ssl.SSLContext | None,
        identity: Identity,
        number: int,
        inbox: Inbox,
        waiting_bytes: Callable[[], int],
    ) -> None:
        self._link = link
        self._filters = identity.filters
        self._incarnation = identity.incarnation(number)
        self._inbox = inbox
        self._waiting_bytes = waiting_bytes
        self._began_s = time.monotonic()
        self._linked_s: float | None = None
        self._is_modest = False
        self._reason = ""
        self._lock = threading.Lock()
        self._bulk: deque[tuple[mqtt.MQTTMessageInfo, int]] = deque()
        self._bulk_bytes = 0
        self._carried_bytes = 0
        self._pulse = Pulse(link.keepalive_s, self._began_s)
        self._unsent_bytes = 0
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._adopt: Callable[[Connection], bool] = lambda _: False
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
            client.username_pw_set(link.username, password_of(link))
        if tls is not None:
            client.tls_set_context(tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = lambda _c, _d, link: send_at_once(link)
        # With this set, other threads never write to the socket: that is for our loop alone.
        client.on_socket_register_write = lambda *_: None

    def run(self, adopt: Callable[[Connection], bool], ending: threading.Event) -> str:
        """Connect and carry messages until the connection ends; the reason why it did.

        Args:
            adopt: told once that the connection can be used; False if nobody wants it any more.
            ending: once set, an attempt that has not come so far is given up.
        """
        self._adopt = adopt
        where = f"{self._link.host}:{self._link.port}"
        with self._woken, self._waker:
            try:
                self.client.connect(self._link.host, self._link.port, self._link.keepalive_s)
            except (OSError, ValueError) as error:
                return f"no broker at {where} ({error})"
            reason = self._carry(ending)
        self._let_go()
        return f"connection to {where} ended ({reason})"

    def _carry(self, ending: threading.Event) -> str:
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        while code == MQTTErrorCode.MQTT_ERR_SUCCESS and not self._is_dead():
            if self._linked_s is None and ending.is_set():
                break
            try:
                code = self._turn()
            except (struct.error, IndexError, KeyError, ValueError) as error:
                # Some releases of paho fall over bytes that are no MQTT.
                return f"what came is no MQTT: {type(error).__name__}: {error}"
        return self._reason or mqtt.error_string(code)

    def _turn(self) -> MQTTErrorCode:
        """Wait for something to read, or room to write, or a message of another thread."""
        client, link = self.client, self.client.socket()
        if link is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        full = self._waiting_bytes() >= MOST_WAITING_BYTES
        undecoded = not full and isinstance(link, ssl.SSLSocket) and link.pending() > 0
        readable, writable, _ = select.select(
            [self._woken] if full else [link, self._woken],
            [link] if client.want_write() else [],
            [],
            PAUSE_S if full else 0.0 if undecoded else self._longest_wait_s(),
        )
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if full or undecoded or link in readable:
            self._pulse.came(time.monotonic())  # or may have: nobody looks while it is full
        if undecoded or link in readable:
            code = client.loop_read()
        if self._woken in readable:
            self._woken.recv(65536)
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS and client.want_write():
            if link in writable:
                self._pulse.left(time.monotonic())
            code = client.loop_write()
        return code

    def _longest_wait_s(self) -> float:
        """An idle link is looked at when something is due; one that works is, every second."""
        if self._linked_s is None or self.client.want_write():
            return LOOP_S
        return max(LOOP_S, self._pulse.due_s - time.monotonic())

    def _let_go(self) -> None:
        """Undo the cycle between this and its client, so that its sockets are closed at once."""
        client = self.client
        client.on_connect = client.on_subscribe = client.on_message = None
        client.on_publish = client.on_disconnect = None

    def publish(self, message: Publish) -> bool:
        """Queue a message for the network thread; False if the queue is full or the link gone."""
        info = self.client.publish(message.topic, message.payload, message.qos, message.retain)
        self._wake()
        if info.rc != MQTTErrorCode.MQTT_ERR_SUCCESS:
            return False
        if message.qos == 0:
            with self._lock:
                self._bulk.append((info, len(message.payload)))
                self._bulk_bytes += len(message.payload)
        return True

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Queue a subscription for the network thread."""
        self.client.subscribe(topics)
        self._wake()

    def unsubscribe(self, topics: list[str]) -> None:
        """Queue the end of a subscription for the network thread."""
        self.client.unsubscribe(topics)
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # it is awake already, or ended
            self._waker.send(b"-")

    def backlog_bytes(self, leaving: int | None = None) -> int:
        """Bytes of QoS 0 messages that have not left yet, without the one that leaves just now."""
        with self._lock:
            while self._bulk and (
                self._bulk[0][0].is_published() or self._bulk[0][0].mid == leaving
            ):
                size = self._bulk.popleft()[1]
                self._bulk_bytes -= size
                self._carried_bytes += size
            return self._bulk_bytes

    def linked_for_s(self) -> float:
        """How long it could be used, in seconds."""
        return 0.0 if self._linked_s is None else time.monotonic() - self._linked_s

    def was_of_use(self) -> bool:
        """Whether it held, or carried anything to speak of."""
        if self._linked_s is None:
            return False
        return self.linked_for_s() >= STABLE_S or self._carried_bytes >= WORTH_BYTES

    def say_goodbye(self, farewell: Publish | None) -> None:
        """Let the farewell leave, then disconnect so that the broker keeps the will back."""
        if farewell is not None:
            info = self.client.publish(
                farewell.topic, farewell.payload, farewell.qos, farewell.retain
            )
            self._wake()
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(timeout=1.0)
        self.client.disconnect()
        self._wake()

    def _is_dead(self) -> bool:
        """Whether it is to be given up; asks the other end for a sign of life when it is time."""
        now_s = time.monotonic()
        if self._linked_s is None:
            dead, why = now_s - self._began_s > 2 * CONNECT_TIMEOUT_S, "the broker does not answer"
        else:
            self._look_what_left(now_s)
            dead, why = self._pulse.is_gone(now_s), "no byte came or left any more"
            if self._pulse.is_question_due(now_s):
                self._pulse.asked(now_s)
                self.client._send_pingreq()  # paho has no public way to do it
        if dead:
            self._reason = self._reason or why
        return dead

    def _look_what_left(self, now_s: float) -> None:
        """What paho has no more may be under way: the kernel knows what the other end has."""
        link = self.client.socket()
        if link is None or self.client.want_write():
            return
        unsent_bytes = unacknowledged_bytes(link)
        if unsent_bytes < self._unsent_bytes:
            self._pulse.left(now_s)
        self._unsent_bytes = unsent_bytes
        if unsent_bytes == 0:
            self._pulse.emptied()

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
        refused = any(code.is_failure for code in codes)
        if refused and not self._is_modest:
            # A NATS cluster that lacks a node refuses QoS 1 for want of a quorum, and grants QoS 0.
            self._is_modest = True
            self.client.subscribe([(topic, 0) for topic in self._filters])
            return
        if refused:
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
        self._carried_bytes += len(message.payload)
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
        why = "the connection broke" if str(code) == "Unspecified error" else str(code)
        if self._link.cert_file is not None and self._linked_s is None:
            why += ' before it was let in: "flockwise broker list" tells who is enrolled'
        self._reason = self._reason or why
