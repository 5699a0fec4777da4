"""What a client sends and receives, counted where it connects: a TCP relay on loopback.

The client is told the relay's port in place of the server's. Bytes are those of the stream, without
the headers of TCP and IP; when they passed is kept with them, so that they can be told by rounds.
"""

from __future__ import annotations

import socket
import threading
import time
from bisect import bisect_right
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PIECE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Carried:
    """Bytes from the client to the server, and from the server to the client."""

    up: int = 0
    down: int = 0

    def __sub__(self, other: Carried) -> Carried:
        return Carried(self.up - other.up, self.down - other.down)

    def __add__(self, other: Carried) -> Carried:
        return Carried(self.up + other.up, self.down + other.down)


class Relay:
    """Connections to `port` lead to the server; leaving the context ends them."""

    def __init__(self, host: str, port: int) -> None:
        self._server = (host, port)
        self._lock = threading.Lock()
        self._times_s = [0.0]
        self._carried = [Carried()]
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]

    def until(self, time_s: float) -> Carried:
        """What had passed by then, a time since the epoch."""
        with self._lock:
            return self._carried[bisect_right(self._times_s, time_s) - 1]

    def _accept(self) -> None:
        with suppress(OSError):  # the listener was closed
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(self._server)
                except OSError:
                    client.close()
                    continue
                self._carry(client, server, up=True)
                self._carry(server, client, up=False)

    def _carry(self, source: socket.socket, sink: socket.socket, *, up: bool) -> None:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._open.add(source)
        threading.Thread(target=self._copy, args=(source, sink, up), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with suppress(OSError):
            while piece := source.recv(PIECE_BYTES):
                self._count(len(piece), up)
                sink.sendall(piece)
        for end in (source, sink):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()

    def _count(self, size: int, up: bool) -> None:
        with self._lock:
            more = Carried(up=size) if up else Carried(down=size)
            self._times_s.append(time.time())
            self._carried.append(self._carried[-1] + more)

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
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
        with self._lock:
            still_open = list(self._open)
        for end in still_open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
