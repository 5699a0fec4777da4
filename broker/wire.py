"""The bytes of one connection of the embedded broker: whole packets in, bounded writes out.

amqtt reads a packet field by field from the socket. Here it is given one packet after another,
read whole, of a known type and bounded size, within the silence that the keepalive allows, and
only when all before it has been dealt with. What breaks these rules ends the connection.
"""

# amqtt tells no types.
# mypy: disable-error-code="import-untyped, misc"

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from amqtt.adapters import ReaderAdapter, WriterAdapter

# Twice the largest chunk that the settings allow, as for mosquitto.
MAX_PACKET_BYTES = 2_097_152
# A client that does not read is sent no more messages from here on, as for mosquitto,
QUEUE_BYTES = 16_777_216
# and is cut off if it lets even answers to its own requests pile up.
_PATIENCE_BYTES = QUEUE_BYTES + 2 * MAX_PACKET_BYTES
CONNECT_TIMEOUT_S = 10.0
_FLUSH_S = 2.0
_PIECE_BYTES = 65_536

_CONNECT, _PUBLISH = 1, 3
# Least length after the fixed header of each type that a client may send (MQTT 3.1.1, chapter 3):
# CONNECT, PUBLISH, PUBACK to PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, PINGREQ, DISCONNECT.
_LEAST = {1: 12, 3: 3, 4: 2, 5: 2, 6: 2, 7: 2, 8: 6, 10: 5, 12: 0, 14: 0}


class PacketReader(ReaderAdapter):
    """Serves amqtt's reads out of one whole packet at a time.

    Attributes:
        silence_s: longest silence before the connection counts as broken (None: any).
        settled: awaited before the next packet is read.
    """

    def __init__(self, stream: asyncio.StreamReader) -> None:
        self.silence_s: float | None = CONNECT_TIMEOUT_S
        self.settled: Callable[[], Awaitable[None]] | None = None
        self._stream = stream
        self._packet = memoryview(b"")
        self._at = 0
        self._connected = False
        self._over = False

    async def read(self, n: int = -1) -> bytes:
        """The next `n` bytes of this packet, or of the next one; fewer when it is over."""
        if n <= 0:
            return b""
        if self._at == len(self._packet) and not await self._next_packet():
            return b""
        piece = bytes(self._packet[self._at : self._at + n])
        self._at += len(piece)
        self._over = self._over or len(piece) < n
        return piece

    def feed_eof(self) -> None:
        """Read no further."""
        self._over = True

    async def _next_packet(self) -> bool:
        # Give way, so that the packet before is on its way to being dealt with.
        await asyncio.sleep(0)
        if self.settled is not None:
            await self.settled()
        try:
            packet = None if self._over else await self._receive()
        except (TimeoutError, asyncio.IncompleteReadError, OSError):
            packet = None
        self._packet, self._at = memoryview(packet or b""), 0
        self._over = packet is None
        return packet is not None

    async def _receive(self) -> bytearray | None:
        packet = bytearray(await self._exactly(1))
        kind, length, shift = packet[0] >> 4, 0, 0
        while True:
            packet += await self._exactly(1)
            length |= (packet[-1] & 0x7F) << shift
            if packet[-1] < 0x80:
                break
            shift += 7
            if shift > 21:
                return None
        if length > MAX_PACKET_BYTES or length < _LEAST.get(kind, MAX_PACKET_BYTES + 1):
            return None
        if (kind == _CONNECT) is self._connected:
            return None
        self._connected = True
        start = len(packet)
        while (left := start + length - len(packet)) > 0:
            packet += await self._some(min(left, _PIECE_BYTES))
        return packet if kind != _PUBLISH or _names_a_topic(packet, start) else None

    async def _exactly(self, count: int) -> bytes:
        async with asyncio.timeout(self.silence_s):
            return await self._stream.readexactly(count)

    async def _some(self, most: int) -> bytes:
        # On a slow link a packet may take longer than any silence: bytes that come break it.
        async with asyncio.timeout(self.silence_s):
            if piece := await self._stream.read(most):
                return piece
        raise asyncio.IncompleteReadError(b"", most)


class PacketWriter(WriterAdapter):
    """Writes without ever waiting for the peer; whoever lets too much pile up is cut off."""

    def __init__(self, stream: asyncio.StreamWriter) -> None:
        self._stream = stream
        self._closed = False

    @property
    def is_full(self) -> bool:
        """Whether no more messages should be sent."""
        return self._closed or self._stream.transport.get_write_buffer_size() >= QUEUE_BYTES

    def write(self, data: bytes) -> None:
        """Send one whole packet."""
        if self._closed:
            return
        if self._stream.transport.get_write_buffer_size() >= _PATIENCE_BYTES:
            self._closed = True
            self._stream.transport.abort()
            return
        self._stream.write(data)

    async def drain(self) -> None:
        """Nothing: one client that does not read must not hold up what serves it."""

    def get_peer_info(self) -> tuple[str, int] | None:
        """Address and port of the client."""
        peer = self._stream.get_extra_info("peername")
        return (peer[0], peer[1]) if peer else None

    def get_ssl_info(self) -> Any:
        """Always None: the embedded broker has no TLS."""
        return None

    async def close(self) -> None:
        """Close when what was written has left, or a little later in any case."""
        if not self._closed:
            self._closed = True
            self._stream.close()
            asyncio.get_running_loop().call_later(_FLUSH_S, self._stream.transport.abort)


def is_topic(topic: str) -> bool:
    """Whether messages may be published on it: no wildcard, and nothing of the broker's own."""
    return bool(topic) and not topic.startswith("$") and not set("+#\0") & set(topic)


def _names_a_topic(packet: bytearray, start: int) -> bool:
    end = start + 2 + int.from_bytes(packet[start : start + 2], "big")
    try:
        return end <= len(packet) and is_topic(packet[start + 2 : end].decode())
    except UnicodeDecodeError:
        return False
