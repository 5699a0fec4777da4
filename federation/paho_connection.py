"""One attempt to connect to a broker by paho-mqtt, and what comes of it; nothing else imports paho.

The loop around the socket is our own. paho's gives up a link that is slow, when the answer to a
ping waits behind other bytes; this one asks `patience.Pulse`, and tells it what moves. Chunks pass
by paho where they come in (`chunk_link`), and go out through its queue (`backlog`).
"""

from __future__ import annotations

import select
import ssl
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion, MQTTErrorCode

from config.settings import Link
from federation.backlog import Backlog, packet_of
from federation.chunk_link import PUBLISH, ChunkLink
from federation.doorbell import Doorbell
from federation.kernel import send_at_once, unacknowledged_bytes
from federation.machine import Linked, Publish, Received
from federation.password import password_of
from federation.patience import Pulse
from federation.session import MOST_WAITING_BYTES, Drained, Identity, Inbox

CONNECT_TIMEOUT_S = 10.0
LOOP_S = 1.0
PAUSE_S = 0.02
MAX_IN_FLIGHT = 100
MAX_QUEUED = 60_000
# So many packets are read before it is looked what there is to write.
MOST_PACKETS = 64
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
        self.backlog = Backlog(lambda: inbox(Drained()))
        self._chunks: ChunkLink | None = None
        self._came_bytes = 0
        self._pulse = Pulse(link.keepalive_s, self._began_s)
        self._unsent_bytes = 0
        self._bell = Doorbell()
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
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = self._on_socket_open
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
        with self._bell:
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
        client, link = self.client, self._chunks
        if link is None or client.socket() is None:
            return MQTTErrorCode.MQTT_ERR_NO_CONN
        full = self._waiting_bytes() >= MOST_WAITING_BYTES
        unread = not full and not link.drained
        sources: list[Any] = [self._bell] if full else [link, self._bell]
        readable, writable, _ = select.select(
            sources,
            [link] if client.want_write() else [],
            [],
            PAUSE_S if full else 0.0 if unread else self._longest_wait_s(),
        )
        code = MQTTErrorCode.MQTT_ERR_SUCCESS
        if full or unread or link in readable:
            self._pulse.came(time.monotonic())  # or may have: nobody looks while it is full
        if unread or link in readable:
            code = self._read(link)
        if self._bell in readable:
            self._bell.answer()
        if code == MQTTErrorCode.MQTT_ERR_SUCCESS and client.want_write():
            if link in writable:
                self._pulse.left(time.monotonic())
            code = client.loop_write()
        return code

    def _read(self, link: ChunkLink) -> MQTTErrorCode:
        for _ in range(MOST_PACKETS):
            if self._waiting_bytes() >= MOST_WAITING_BYTES or not link.advance():
                break
            if (code := self.client.loop_read()) != MQTTErrorCode.MQTT_ERR_SUCCESS:
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    def _longest_wait_s(self) -> float:
        """An idle link is looked at when something is due; one that works is, every second."""
        if self._linked_s is None or self.client.want_write():
            return LOOP_S
        return max(LOOP_S, self._pulse.due_s - time.monotonic())

    def _let_go(self) -> None:
        """Undo the cycle between this and its client, so that its sockets are closed at once."""
        client = self.client
        client.on_connect = client.on_subscribe = client.on_message = None
        client.on_disconnect = client.on_socket_open = None
        self._chunks = None

    def publish(self, message: Publish) -> bool:
        """Queue a message for the network thread; False if the queue is full or the link gone."""
        if message.qos > 0:
            info = self.client.publish(message.topic, message.payload, message.qos, message.retain)
            self._bell.ring()
            return info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS
        # As paho does it, without its copies.
        if self.client.socket() is None:
            return False
        packet: Any = packet_of(message)
        leaving: Any = self.backlog.add(len(message.payload))
        self.client._packet_queue(PUBLISH, packet, 0, 0, leaving)
        self._bell.ring()
        return True

    def subscribe(self, topics: list[tuple[str, int]]) -> None:
        """Queue a subscription for the network thread."""
        self.client.subscribe(topics)
        self._bell.ring()

    def unsubscribe(self, topics: list[str]) -> None:
        """Queue the end of a subscription for the network thread."""
        self.client.unsubscribe(topics)
        self._bell.ring()

    def linked_for_s(self) -> float:
        """How long it could be used, in seconds."""
        return 0.0 if self._linked_s is None else time.monotonic() - self._linked_s

    def was_of_use(self) -> bool:
        """Whether it held, or carried anything to speak of."""
        if self._linked_s is None:
            return False
        carried_bytes = self._came_bytes + self.backlog.carried_bytes
        return self.linked_for_s() >= STABLE_S or carried_bytes >= WORTH_BYTES

    def say_goodbye(self, farewell: Publish | None) -> None:
        """Let the farewell leave, then disconnect so that the broker keeps the will back."""
        if farewell is not None:
            info = self.client.publish(
                farewell.topic, farewell.payload, farewell.qos, farewell.retain
            )
            self._bell.ring()
            if info.rc == MQTTErrorCode.MQTT_ERR_SUCCESS:
                info.wait_for_publish(timeout=1.0)
        self.client.disconnect()
        self._bell.ring()

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
        link = self._chunks
        if link is None or self.client.socket() is None or self.client.want_write():
            return
        unsent_bytes = unacknowledged_bytes(link)
        if unsent_bytes < self._unsent_bytes:
            self._pulse.left(now_s)
        self._unsent_bytes = unsent_bytes
        if unsent_bytes == 0:
            self._pulse.emptied()

    def _on_socket_open(self, client: mqtt.Client, _data: Any, link: Any) -> None:
        send_at_once(link)
        client._sock = self._chunks = ChunkLink(link, self._took)

    def _took(self, topic: str, payload: bytes, retained: bool) -> None:
        self._came_bytes += len(payload)
        self._inbox(Received(topic, payload, retained))

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
        self._took(topic, bytes(message.payload), bool(message.retain))

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        why = "the connection broke" if str(code) == "Unspecified error" else str(code)
        if self._link.cert_file is not None and self._linked_s is None:
            why += ' before it was let in: "flockwise broker list" tells who is enrolled'
        self._reason = self._reason or why
