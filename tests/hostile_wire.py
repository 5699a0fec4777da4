"""An enemy on the wire: a TCP proxy that finds MQTT PUBLISH packets and alters what they carry.

Length and framing stay, so broker and roles read on as if nothing were; only what a publication
says is another. It lives on a free port of 127.0.0.1, in threads of its own, and works by a seed.
"""

from __future__ import annotations

import random
import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self

PUBLISH = 3
LONG_S = 10.0


class HostileWire:
    """A port that leads to a broker, and alters one in so many publications on the way.

    Attributes:
        port: where a role connects to.
        one_in: how many publications there are to each that is altered.
        carried, altered: publications so far, both ways.
        read: all that was said upwards, for who looks for secrets in it.
    """

    def __init__(self, to_port: int, seed: int = 0, one_in: int = 12) -> None:
        self.one_in = one_in
        self.carried = 0
        self.altered = 0
        self.read: list[bytes] = []
        self._to_port = to_port
        self._chance = random.Random(seed)
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._begin(self._accept)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for end in self._ends:
            _end(end)
        for thread in self._threads:
            thread.join(LONG_S)
        for end in self._ends:
            end.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(("127.0.0.1", self._to_port))
                self._ends += [near, far]
                self._begin(self._pump, near, far, True)
                self._begin(self._pump, far, near, False)

    def _begin(self, work: object, *words: object) -> None:
        thread = threading.Thread(target=work, args=words, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, is_up: bool) -> None:
        waiting = bytearray()
        with suppress(OSError):
            while data := source.recv(65536):
                waiting += data
                while (size := packet_size(waiting)) is not None:
                    packet, waiting = waiting[:size], waiting[size:]
                    if packet[0] >> 4 == PUBLISH:
                        self._publication(packet, is_up)
                    sink.sendall(packet)
        _end(source)
        _end(sink)

    def _publication(self, packet: bytearray, is_up: bool) -> None:
        start = payload_start(packet)
        with self._lock:
            self.carried += 1
            if is_up:
                self.read.append(bytes(packet[start:]))
            if start < len(packet) and self._chance.randrange(self.one_in) == 0:
                self.altered += 1
                packet[self._chance.randrange(start, len(packet))] ^= self._chance.randint(1, 255)


def packet_size(data: bytes | bytearray) -> int | None:
    """How long the MQTT packet is that these bytes begin with; None if that is not all here."""
    left = 0
    for place in range(1, 5):
        if place >= len(data):
            return None
        left |= (data[place] & 127) << 7 * (place - 1)
        if data[place] < 128:
            size = place + 1 + left
            return size if size <= len(data) else None
    raise AssertionError("no MQTT")


def payload_start(packet: bytes | bytearray) -> int:
    """Where the payload of an MQTT 3.1.1 PUBLISH begins."""
    place = 1
    while packet[place] >= 128:
        place += 1
    place += 1
    place += 2 + int.from_bytes(packet[place : place + 2], "big")
    return place + (2 if packet[0] & 0b110 else 0)


def _end(line: socket.socket) -> None:
    with suppress(OSError):
        line.shutdown(socket.SHUT_RDWR)
