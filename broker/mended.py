"""amqtt 0.12, mended where it departs from what Flockwise needs of MQTT 3.1.1.

amqtt keeps sessions, subscriptions and retained messages, reads and writes packets and asks its
plugins who may do what. How a message takes its way is done here, as amqtt's own does not hold
the contract (docs/brokers.md lists what was seen): everything that a client sends is dealt with in
order, one packet at a time; messages go straight from there to the connections of subscribers;
what ends a connection publishes its will before anything else happens under its id. There are
only clean sessions, and QoS 2 is not served.
"""

# amqtt tells no types.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

from amqtt.broker import Broker
from amqtt.contexts import Action
from amqtt.errors import MQTTError
from amqtt.mqtt.disconnect import DisconnectPacket
from amqtt.mqtt.protocol.broker_handler import BrokerProtocolHandler
from amqtt.mqtt.puback import PubackPacket
from amqtt.mqtt.publish import PublishPacket
from amqtt.mqtt.subscribe import SubscribePacket
from amqtt.mqtt.unsubscribe import UnsubscribePacket
from amqtt.session import Session

from broker.wire import PacketReader, PacketWriter, is_topic

LISTENER = "default"
_REFUSED = 0x80
_KEEPALIVE_GRACE = 1.5  # MQTT 3.1.1, 3.1.2.10

log = logging.getLogger(__name__)


class Connection(BrokerProtocolHandler):
    """One client's connection: what it sends goes into an inbox, what it is sent goes out at once.

    Attributes:
        inbox: packets in the order of arrival; None when the connection is closed.
        gone: set when all consequences of its end have taken place.
    """

    def __init__(self, plugins: Any, session: Any = None, loop: Any = None) -> None:
        super().__init__(plugins, session, loop)
        self.inbox: asyncio.Queue[Any] = asyncio.Queue()
        self.gone = asyncio.Event()

    async def handle_publish(self, publish_packet: Any) -> None:
        """Queue it."""
        self.inbox.put_nowait(publish_packet)

    async def handle_subscribe(self, subscribe: Any) -> None:
        """Queue it."""
        self.inbox.put_nowait(subscribe)

    async def handle_unsubscribe(self, unsubscribe: Any) -> None:
        """Queue it."""
        self.inbox.put_nowait(unsubscribe)

    async def handle_disconnect(self, disconnect: Any) -> None:
        """Queue it."""
        self.inbox.put_nowait(disconnect)

    async def handle_connection_closed(self) -> None:
        """Queue the end."""
        self.inbox.put_nowait(None)

    async def handle_puback(self, puback: Any) -> None:
        """Nothing: in a clean session no message is ever sent again."""

    def send(self, topic: str, data: bytes, qos: int, *, retained: bool) -> None:
        """Write a message, or drop it if this client does not read what it was sent."""
        if self.session is None or self.writer is None or self.writer.is_full:
            return
        packet_id = self.session.next_packet_id if qos else None
        packet = PublishPacket.build(topic, data, packet_id, False, qos, retained)
        self.writer.write(packet.to_bytes())


class MendedBroker(Broker):
    """amqtt's broker with a message path of its own."""

    async def serve_stream(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Serve one connection from beginning to end; nothing that it does is raised."""
        packets = PacketWriter(writer)
        try:
            await self.external_connected(PacketReader(reader), packets, LISTENER)
        except Exception as error:
            log.warning("a connection was ended: %s: %s", type(error).__name__, error)
        finally:
            await packets.close()

    async def end_connections(self) -> None:
        """Close all connections, each with the consequences that its end has."""
        for _, connection in list(self._sessions.values()):
            await connection.handle_connection_closed()
            await connection.gone.wait()

    async def _initialize_client_session(
        self, reader: PacketReader, writer: PacketWriter, remote_address: str, remote_port: int
    ) -> tuple[Connection, Any]:
        connection, session = await Connection.init_from_connect(
            reader, writer, self.plugins_manager
        )
        if session.will_flag and (session.will_qos > 1 or not is_topic(session.will_topic)):
            raise MQTTError(f"will of {session.client_id} with QoS 2 or on a topic that is none")
        session.clean_session = True
        reader.silence_s = session.keep_alive * _KEEPALIVE_GRACE or None
        # The reader above keeps the time: amqtt's own lets it pass without consequence.
        session.keep_alive = 0
        reader.settled = connection.inbox.join
        return connection, session

    async def _handle_client_session(
        self,
        reader: PacketReader,
        writer: PacketWriter,
        client_session: Any,
        handler: Connection,
        server: Any,
        listener_name: str,
    ) -> None:
        accepted = await self._authenticate(client_session, self.listeners_config[listener_name])
        while accepted and (older := self._sessions.get(client_session.client_id)):
            await older[1].handle_connection_closed()
            await older[1].gone.wait()
        handler.attach(client_session, reader, writer)
        try:
            if accepted:
                await self._obey(client_session, handler)
            else:
                await handler.mqtt_connack_authorize(authorize=False)
        finally:
            await handler.stop()

    async def _obey(self, session: Any, connection: Connection) -> None:
        """Do what the client asks for until it leaves; then see to its leaving."""
        session.transitions.connect()
        self._sessions[session.client_id] = (session, connection)
        orderly = False
        try:
            await connection.mqtt_connack_authorize(authorize=True)
            await connection.start()
            while (packet := await connection.inbox.get()) is not None:
                orderly = isinstance(packet, DisconnectPacket)
                if orderly or not await self._deal_with(packet, session, connection):
                    break
                connection.inbox.task_done()
        finally:
            await self._del_all_subscriptions(session)
            if session.will_flag and not orderly:
                will = bytes(session.will_message)
                await self._distribute(
                    session.will_topic, will, session.will_qos, retain=session.will_retain
                )
            del self._sessions[session.client_id]
            session.transitions.disconnect()
            connection.gone.set()

    async def _deal_with(self, packet: Any, session: Any, connection: Connection) -> bool:
        """Whether the client may go on."""
        if isinstance(packet, PublishPacket):
            if packet.qos > 1:
                return False
            if await self._topic_filtering(session, packet.topic_name, Action.PUBLISH):
                await self._distribute(
                    packet.topic_name, packet.data, packet.qos, retain=packet.retain_flag
                )
            if packet.qos:
                await connection._send_packet(PubackPacket.build(packet.packet_id))
        elif isinstance(packet, SubscribePacket):
            await self._subscribe(packet, session, connection)
        elif isinstance(packet, UnsubscribePacket):
            for topic_filter in packet.payload.topics:
                self._unsubscribe(topic_filter, session)
            await connection.mqtt_acknowledge_unsubscription(packet.variable_header.packet_id)
        return True

    async def _subscribe(self, packet: Any, session: Any, connection: Connection) -> None:
        granted = []
        for topic_filter, qos in packet.payload.topics:
            # amqtt leaves the QoS of an earlier subscription to the same filter as it was.
            self._unsubscribe(topic_filter, session)
            asked = (topic_filter, min(qos, 1))
            granted.append(
                await self.add_subscription(asked, session) if topic_filter else _REFUSED
            )
        await connection.mqtt_acknowledge_subscription(packet.variable_header.packet_id, granted)
        for (topic_filter, _), qos in zip(packet.payload.topics, granted, strict=True):
            if qos != _REFUSED:
                for kept in self._retained_for(topic_filter):
                    connection.send(kept.topic, kept.data, min(kept.qos, qos), retained=True)

    def _unsubscribe(self, topic_filter: str, session: Any) -> None:
        self._del_subscription(topic_filter, session)
        if not self._subscriptions.get(topic_filter, True):
            del self._subscriptions[topic_filter]

    def _retained_for(self, topic_filter: str) -> Iterator[Any]:
        if "+" in topic_filter or "#" in topic_filter:
            for topic, kept in self._retained_messages.items():
                if self._matches(topic, topic_filter):
                    yield kept
        elif topic_filter in self._retained_messages:
            yield self._retained_messages[topic_filter]

    async def _distribute(self, topic: str, data: bytes, qos: int, *, retain: bool) -> None:
        for topic_filter, subscribers in self._subscriptions.items():
            if topic_filter == topic or (
                ("+" in topic_filter or "#" in topic_filter) and self._matches(topic, topic_filter)
            ):
                for subscriber, granted in subscribers:
                    self._sessions[subscriber.client_id][1].send(
                        topic, data, min(qos, granted), retained=False
                    )
        if retain:
            await self.retain_message(None, topic, data, qos)

    async def _broadcast_message(
        self,
        session: Session | None,
        topic: str | None,
        data: bytes | bytearray | None,
        force_qos: int | None = None,
    ) -> None:
        """What plugins publish takes the same way."""
        if topic is not None:
            await self._distribute(topic, bytes(data or b""), force_qos or 0, retain=False)
