"""A link that fails: a TCP proxy between a role and a broker that cuts, stalls, throttles, delays.

It lives on a free port of 127.0.0.1, in a thread of its own. What it does by itself follows from
`LinkFaults` and a seed; what a test wants at a certain moment it calls for. The broker is `up`.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeAlias

PIECE_BYTES = 16 * 1024
# Of each socket. On a slow link what waits has to wait at its ends, and be known there to wait.
BUFFER_BYTES = 64 * 1024
SLOW_BUFFER_BYTES = 8 * 1024
LONG_S = 10.0

Span: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class LinkFaults:
    """What a link does by itself; spans are uniform. `BadLink.faults` may be replaced at any time.

    Attributes:
        bytes_per_s: most that it carries, each way.
        delay_s: what each byte takes, each way.
        cut_every_s: all connections are cut, so long after the last cut.
        cut_at_bytes: a connection is cut once it has carried so many bytes, both ways together.
        stall_every_s: it stalls, so long after the last stall ended; for `stall_for_s`.
    """

    bytes_per_s: float | None = None
    delay_s: float = 0.0
    cut_every_s: Span | None = None
    cut_at_bytes: tuple[int, int] | None = None
    stall_every_s: Span | None = None
    stall_for_s: Span = (1.0, 1.0)


class BadLink:
    """A port that leads to another one, badly.

    Attributes:
        port: where a role connects to.
        to_port: where the broker is; may change.
        refuse: whether new connections are reset at once.
        bytes_up, bytes_down: carried to and from the broker.
        connections: how many were made through it.
        cuts: how many of them were cut, by schedule or on request.
    """

    def __init__(self, to_port: int, seed: int = 0, faults: LinkFaults = LinkFaults()) -> None:
        self.to_port = to_port
        self.faults = faults
        self.refuse = False
        self.bytes_up = 0
        self.bytes_down = 0
        self.connections = 0
        self.cuts = 0
        self.flowing = asyncio.Event()
        self.swallowing = False
        self._chance = {what: random.Random(f"{seed} {what}") for what in ("cut", "bytes", "stall")}
        self._open: set[_Connection] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER_BYTES)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.up, self.down = _Wire(self), _Wire(self)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def cut(self) -> None:
        """Cut all connections now, at whatever byte."""
        self._do(self._cut)

    def stall(self) -> None:
        """Keep all connections, and new ones, but move no byte: half-open, as either end sees."""
        self._do(self.flowing.clear)

    def resume(self) -> None:
        """Carry again, in the connections whose bytes were not swallowed and in new ones."""
        self._do(self._resume)

    def blackhole(self) -> None:
        """Take all bytes from either end and deliver none; for a new connection as well."""
        self._do(self._swallow)

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self.flowing.set)
        for coroutine in (self._accept(), self._cut_by_schedule(), self._stall_by_schedule()):
            self._do(lambda coroutine=coroutine: self.spawn(coroutine))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(LONG_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONG_S)
        self._loop.close()

    # All below runs in the thread of the link

    def spawn(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """Run it until it ends or the link does."""
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def limit(self) -> float:
        """After how many bytes a new connection is to be cut."""
        span = self.faults.cut_at_bytes
        return self._chance["bytes"].randint(*span) if span else float("inf")

    def ended(self, connection: _Connection) -> None:
        """This connection is no more."""
        self._open.discard(connection)

    def _do(self, action: Callable[[], object]) -> None:
        async def act() -> None:
            action()

        asyncio.run_coroutine_threadsafe(act(), self._loop).result(LONG_S)

    def _cut(self) -> None:
        for connection in list(self._open):
            connection.cut()

    def _resume(self) -> None:
        self.swallowing = False
        self.flowing.set()

    def _swallow(self) -> None:
        self.swallowing = True
        for connection in self._open:
            connection.swallowed = True

    async def _accept(self) -> None:
        while True:
            with suppress(OSError):
                near, _ = await self._loop.sock_accept(self._listener)
                if self.refuse:
                    _reset(near)
                    continue
                self.connections += 1
                connection = _Connection(self, near)
                self._open.add(connection)
                self.spawn(connection.run())

    async def _cut_by_schedule(self) -> None:
        while True:
            if (span := self.faults.cut_every_s) is None:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(self._chance["cut"].uniform(*span))
            self._cut()

    async def _stall_by_schedule(self) -> None:
        while True:
            if (span := self.faults.stall_every_s) is None:
                await asyncio.sleep(0.05)
                continue
            await asyncio.sleep(self._chance["stall"].uniform(*span))
            self.flowing.clear()
            await asyncio.sleep(self._chance["stall"].uniform(*self.faults.stall_for_s))
            self.flowing.set()

    async def _end(self) -> None:
        me = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not me]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._listener.close()


class _Wire:
    """One direction: bytes pass one after another, no faster than the link carries."""

    def __init__(self, link: BadLink) -> None:
        self._link = link
        self._free_s = 0.0

    async def carry(self, size: int) -> None:
        """Wait until so many bytes have passed."""
        rate = self._link.faults.bytes_per_s
        if rate is not None:
            now_s = asyncio.get_running_loop().time()
            self._free_s = max(self._free_s, now_s) + size / rate
            await asyncio.sleep(self._free_s - now_s)


class _Connection:
    """One connection through the link, both its ends, until either is gone."""

    def __init__(self, link: BadLink, near: socket.socket) -> None:
        self._link = link
        self._loop = asyncio.get_running_loop()
        self._near = near
        self._far = socket.socket()
        self._left = link.limit()
        self._over = asyncio.Event()
        self.swallowed = link.swallowing
        buffer_bytes = BUFFER_BYTES if link.faults.bytes_per_s is None else SLOW_BUFFER_BYTES
        for end in (self._near, self._far):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self) -> None:
        """Carry until it is over."""
        tasks = [self._loop.create_task(self._carry())]
        try:
            await self._over.wait()
        finally:
            # Whoever waits for a socket has to let go of it before it is closed.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._link.ended(self)
            _reset(self._near)
            _reset(self._far)

    def cut(self) -> None:
        """End it for both ends, without a word."""
        if not self._over.is_set():
            self._link.cuts += 1
            self._over.set()

    async def _carry(self) -> None:
        try:
            if not self.swallowed:
                await self._loop.sock_connect(self._far, ("127.0.0.1", self._link.to_port))
                async with asyncio.TaskGroup() as group:  # if one way fails, so does the other
                    group.create_task(self._pass_on(self._near, self._far, up=True))
                    group.create_task(self._pass_on(self._far, self._near, up=False))
            else:
                while await self._loop.sock_recv(self._near, PIECE_BYTES):
                    pass
        except* OSError:
            pass
        finally:
            self._over.set()

    async def _pass_on(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        # The pieces in the queue are those that are under way for `delay_s`.
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(1024)
        async with asyncio.TaskGroup() as group:
            group.create_task(self._take(source, pieces, self._link.up if up else self._link.down))
            group.create_task(self._deliver(pieces, sink, up))

    async def _take(
        self, source: socket.socket, pieces: asyncio.Queue[tuple[float, bytes]], wire: _Wire
    ) -> None:
        piece = b"-"
        while piece:
            await self._link.flowing.wait()
            rate = self._link.faults.bytes_per_s
            most = min(PIECE_BYTES, max(512, int(rate / 50))) if rate else PIECE_BYTES
            piece = await self._loop.sock_recv(source, most)
            await wire.carry(len(piece))
            await pieces.put((self._loop.time() + self._link.faults.delay_s, piece))

    async def _deliver(
        self, pieces: asyncio.Queue[tuple[float, bytes]], sink: socket.socket, up: bool
    ) -> None:
        while True:
            due_s, piece = await pieces.get()
            if (wait_s := due_s - self._loop.time()) > 0:
                await asyncio.sleep(wait_s)
            await self._link.flowing.wait()
            if self.swallowed:
                continue
            if not piece:
                sink.shutdown(socket.SHUT_WR)
                return
            left = int(min(self._left, len(piece)))
            await self._loop.sock_sendall(sink, piece[:left])
            self._left -= left
            if up:
                self._link.bytes_up += left
            else:
                self._link.bytes_down += left
            if self._left <= 0:
                self.cut()


def _reset(end: socket.socket) -> None:
    with suppress(OSError):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
