"""One of many MQTT connections of a process, on paho's interface for a loop of one's own.

It is the session of `federation.session` as far as a device of a swarm needs it: no thread, no
reconnection. Whoever has the loop tells when the socket is ready (`ready`), and writes at the end
of a turn what was published in it (`flush`). In the benchmarks only measurements of links import
paho; the house itself does in one module, whose loop is for one connection and its thread.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from federation.machine import Linked, Publish, Received, Unlinked
from federation.session import Identity

KEEPALIVE_S = 600
CONNECTION = 1  # each link connects once

SwarmInbox = Callable[[Linked | Unlinked | Received], None]


class SwarmLink:
    """One connection; it tells its inbox what a session tells."""

    def __init__(
        self, identity: Identity, inbox: SwarmInbox, published: Callable[[], None]
    ) -> None:
        """A link that is not connected yet.

        Args:
            published: called when something waits to be written.
        """
        self._identity = identity
        self._inbox = inbox
        self._published = published
        self._is_linked = False
        self._client = client = mqtt.Client(
            CallbackAPIVersion.VERSION2,
            client_id=identity.client_id,
            clean_session=True,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        will = identity.will(identity.incarnation(CONNECTION))
        client.will_set(will.topic, will.payload, will.qos, will.retain)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        client.on_disconnect = self._on_disconnect
        client.on_socket_open = _send_at_once
        # With this set paho writes nothing by itself.
        client.on_socket_register_write = lambda *_: None

    def connect(self, host: str, port: int) -> socket.socket:
        """Connect; the socket to be watched from now on.

        Raises:
            OSError: nobody listens, or there are too many open files.
        """
        self._client.connect(host, port, KEEPALIVE_S)
        link = self._client.socket()
        assert isinstance(link, socket.socket)
        return link

    @property
    def endpoint(self) -> socket.socket | None:
        """The socket to be watched; None once it is closed."""
        found = self._client.socket()
        return found if isinstance(found, socket.socket) else None

    def ready(self) -> None:
        """There is something to read."""
        self._client.loop_read()

    def flush(self) -> bool:
        """Write what waits; whether all of it fitted."""
        if self._client.want_write():
            self._client.loop_write()
        return not self._client.want_write()

    def keep_alive(self) -> None:
        """Ping the broker if it is time; to be called now and then."""
        self._client.loop_misc()

    def publish(self, message: Publish) -> None:
        """Publish with the next `flush`."""
        self._client.publish(message.topic, message.payload, message.qos, message.retain)
        self._published()

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe with QoS 0."""
        self._client.subscribe([(topic, 0) for topic in topics])
        self._published()

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give these subscriptions back."""
        self._client.unsubscribe(list(topics))
        self._published()

    def disconnect(self) -> None:
        """Go in an orderly way: the broker keeps the will back."""
        self._client.disconnect()
        self._published()

    def _on_connect(
        self, client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        if code.is_failure:
            self._inbox(Unlinked(f"the broker refused: {code}"))
            return
        client.subscribe([(topic, 1) for topic in self._identity.filters])
        self._published()

    def _on_subscribe(self, *_: Any) -> None:
        if not self._is_linked:
            self._is_linked = True
            self._inbox(Linked(self._identity.incarnation(CONNECTION)))

    def _on_message(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._inbox(Received(message.topic, bytes(message.payload), bool(message.retain)))
        if message.qos:
            self._published()  # its acknowledgement waits

    def _on_disconnect(
        self, _client: mqtt.Client, _data: Any, _flags: Any, code: Any, _properties: Any
    ) -> None:
        if code.is_failure:
            self._inbox(Unlinked(str(code)))


def _send_at_once(_client: mqtt.Client, _data: Any, link: Any) -> None:
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
