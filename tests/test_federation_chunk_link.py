"""Chunks are taken off a link whole and in order, and paho reads all the rest as it came."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.backlog import Backlog, packet_of
from federation.chunk_link import ChunkLink
from federation.doorbell import Doorbell
from federation.machine import Publish
from federation.messages import FRAME_MARK, MAX_CHUNK_BYTES, Chunk
from federation.session import LOW_WATER_BYTES

patiently = settings(deadline=None)
SUBACK = b"\x90\x03\x00\x01\x00"
PINGRESP = b"\xd0\x00"
TOPIC = "flockwise/test/device/one/up"


@dataclass
class Far:
    """The other end of a link, and what was heard of it."""

    heard: list[tuple[str, bytes, bool] | bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        near, self.socket = socket.socketpair()
        near.setblocking(False)
        self.link = ChunkLink(near, lambda *told: self.heard.append(told))
        self._packet = b""

    def __enter__(self) -> Far:
        return self

    def __exit__(self, *_: object) -> None:
        self.link.close()
        self.socket.close()

    def look(self) -> None:
        """Read as a connection does it, with paho's way to read a packet."""
        while self.link.advance():
            try:
                self._read_packet()
            except BlockingIOError:
                return

    def _read_packet(self) -> None:
        while (missing := self._missing()) > 0:
            data = self.link.recv(missing)
            if not data:
                raise ConnectionError
            self._packet += data
        self.heard.append(self._packet)
        self._packet = b""

    def _missing(self) -> int:
        size, shift = 0, 0
        for at, byte in enumerate(self._packet[1:], 2):
            size |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return at + size - len(self._packet)
        return 1


def a_chunk(size: int, *, retain: bool = False) -> tuple[bytes, tuple[str, bytes, bool]]:
    payload = Chunk(3, 7, bytes(range(256)) * (size // 256) + bytes(size % 256)).encode()
    return bytes(packet_of(Publish(TOPIC, payload, 0, retain))), (TOPIC, payload, retain)


def a_message(payload: bytes, qos: int = 0) -> bytes:
    packet = bytearray(packet_of(Publish(TOPIC, payload, 0)))
    packet[0] |= qos << 1
    return bytes(packet)


def pieces(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    at = 0
    for size in sizes:
        yield stream[at : at + size]
        at += size
    yield stream[at:]


CHUNKS = st.builds(
    lambda size, retain: a_chunk(size, retain=retain), st.integers(1, 20_000), st.booleans()
)
OTHERS = st.one_of(
    st.sampled_from([SUBACK, PINGRESP]),
    st.builds(a_message, st.binary(max_size=300).filter(lambda b: b[:1] != bytes([FRAME_MARK]))),
    st.builds(lambda data: a_message(data, qos=1), st.binary(min_size=3, max_size=20_000)),
).map(lambda packet: (packet, packet))


@given(st.lists(CHUNKS | OTHERS, max_size=8), st.lists(st.integers(1, 30_000), max_size=12))
@patiently
def test_however_a_stream_is_cut_each_packet_is_heard_once_and_in_order(
    packets: list[tuple[bytes, tuple[str, bytes, bool] | bytes]], sizes: list[int]
) -> None:
    stream = b"".join(packet for packet, _ in packets)
    with Far() as far:
        for piece in pieces(stream, sizes):
            far.socket.sendall(piece)
            far.look()
        assert far.heard == [heard for _, heard in packets]


def test_a_link_is_drained_once_there_is_nothing_more_to_read() -> None:
    with Far() as far:
        far.look()
        assert far.link.drained
        far.socket.sendall(a_chunk(100)[0] + SUBACK[:2])
        assert far.link.advance()
        assert not far.link.drained
        far.look()
        assert far.link.drained


@pytest.mark.parametrize("size", [MAX_CHUNK_BYTES, MAX_CHUNK_BYTES + 100])
def test_what_is_longer_than_a_chunk_is_left_for_paho(size: int) -> None:
    packet, told = a_chunk(size)
    with Far() as far:
        for at in range(0, len(packet), 100_000):
            far.socket.sendall(packet[at : at + 100_000])
            far.look()
        assert far.heard == [told if size == MAX_CHUNK_BYTES else packet]


@pytest.mark.parametrize(
    "packet",
    [
        b"\x30\x07\x00\x02\xff\xfe" + bytes([FRAME_MARK, 1, 2]),
        b"\x30\x05\x00\x09abc",
        b"\x30\x01\x00",
        b"\x30\x02\x00\x00",
        b"\x30\x80\x80\x80\x80\x01",
    ],
    ids=["no text", "a topic beyond the end", "no room for a topic", "nothing", "no length"],
)
def test_what_is_not_as_it_should_be_is_for_paho_to_refuse(packet: bytes) -> None:
    with Far() as far:
        far.socket.sendall(packet)
        assert far.link.advance()
        assert far.link.recv(1) == packet[:1]


@pytest.mark.parametrize("cut", [0, 1, 20, 5000])
def test_the_end_of_a_link_is_told_to_paho_wherever_it_comes(cut: int) -> None:
    with Far() as far:
        far.socket.sendall(a_chunk(10_000)[0][:cut])
        far.look()
        far.socket.close()
        assert far.link.advance()
        assert far.link.recv(1) == b""
        assert far.heard == []


def test_so_much_is_read_at_once_and_no_more() -> None:
    packet, told = a_chunk(500_000)
    with Far() as far:
        far.socket.setblocking(False)
        sent = 0
        looks = 0
        while len(far.heard) < 5:
            while sent < 5 * len(packet):
                try:
                    sent += far.socket.send((packet * 5)[sent:])
                except BlockingIOError:
                    break
            before = len(far.heard)
            assert not far.link.advance()
            assert len(far.heard) - before <= 3
            looks += 1
        assert far.heard == [told] * 5


# On the way out


@pytest.mark.parametrize("size", [1, 90, 16_000, 2_100_000])
def test_a_packet_for_a_chunk_is_what_a_broker_reads(size: int) -> None:
    packet = bytes(packet_of(Publish("a/b", bytes(size), 0, True)))
    with Far() as far:
        far.heard.clear()
        for at in range(0, len(packet), 100_000):
            far.socket.sendall(packet[at : at + 100_000])
            far.look()
        assert far.heard == [packet]
    assert packet[0] == 0x31
    assert packet.endswith(b"\x00\x03a/b" + bytes(size))


def test_it_is_told_once_that_little_is_left() -> None:
    told: list[int] = []
    backlog = Backlog(lambda: told.append(len(backlog)))
    sizes = [LOW_WATER_BYTES // 2 + 1] * 3
    leaving: list[Callable[[], None]] = [backlog.add(size)._set_as_published for size in sizes]
    assert len(backlog) == sum(sizes)
    for left in leaving:
        left()
    assert told == [sizes[0]]
    assert (len(backlog), backlog.carried_bytes) == (0, sum(sizes))


def test_a_bell_that_rings_is_heard_once_and_can_be_rung_again() -> None:
    with Doorbell() as bell:
        bell.ring()
        bell.ring()
        bell.answer()
        with pytest.raises(BlockingIOError):
            bell._inside.recv(1)
        bell.ring()
        bell.answer()
    bell.ring()  # nobody waits any more
