"""The socket under paho, where chunks take a shorter way.

paho reads a packet in five calls or more, and copies it as often. A chunk (a PUBLISH of QoS 0 whose
payload is a frame) is read into its own place here, and handed to whoever takes it; every other
packet is left for paho to read, byte for byte. How packets look: MQTT 3.1.1, sections 2.2 and 3.3.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from typing import TypeAlias

from federation.messages import FRAME_MARK, MAX_CHUNK_BYTES

PUBLISH = 0x30
RETAIN = 0x01
# Room for any small message; of a chunk no more is copied once more than what came with its head.
HEAD_BYTES = 16 * 1024
MOST_AT_ONCE_BYTES = 1024 * 1024
NOTHING_NOW = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_LONGEST_TOPIC = 1024
_LONGEST_CHUNK = MAX_CHUNK_BYTES + 64

# Topic, payload, retained.
Take: TypeAlias = Callable[[str, bytes, bool], None]


class ChunkLink:
    """A connected socket as paho wants one, from which it hears nothing of chunks.

    Attributes:
        drained: whether all that had come by the last look was read.
    """

    def __init__(self, inner: socket.socket, take: Take) -> None:
        self.drained = True
        self._inner = inner
        self._take = take
        self._head = bytearray(HEAD_BYTES)
        self._begin = self._end = 0  # of what was read into it and not passed on
        self._for_paho = 0  # bytes of a packet that paho is to read
        self._failure: OSError | None = None
        # The chunk that is being read.
        self._body: bytearray | None = None
        self._have = 0
        self._topic = ""
        self._retained = False

    def advance(self) -> bool:
        """Read what has come, and have its chunks taken; True if what follows is for paho to read.

        False if nothing has come (`drained`), or so much that something else may be due first.
        """
        self.drained = False
        read = 0
        while not self._for_paho and read < MOST_AT_ONCE_BYTES:
            if self._body is None and self._understood():
                continue
            count = self._read_on()
            if self.drained:
                return False
            read += count
        return self._for_paho > 0

    # As paho's `SocketLike`

    def recv(self, buffer_size: int) -> bytes:
        """At most so many bytes, and none beyond the packet that was left for paho.

        Raises:
            BlockingIOError: there is nothing for it now.
            OSError: the link broke.
        """
        if self._failure is not None:
            raise self._failure
        if self._begin == self._end:
            if not self._for_paho:
                raise BlockingIOError
            try:
                data = self._inner.recv(min(buffer_size, self._for_paho))
            except NOTHING_NOW:
                self.drained = True
                raise BlockingIOError from None
        else:
            size = min(buffer_size, self._for_paho, self._end - self._begin)
            if not size:
                raise BlockingIOError
            data = bytes(self._head[self._begin : self._begin + size])
            self._begin += size
        self._for_paho -= len(data)
        return data

    def send(self, buffer: bytes | bytearray) -> int:
        """As a socket does it."""
        return self._inner.send(buffer)

    def fileno(self) -> int:
        """For select."""
        return self._inner.fileno()

    def setblocking(self, flag: bool) -> None:
        """As a socket does it."""
        self._inner.setblocking(flag)

    def close(self) -> None:
        """As a socket does it."""
        self._inner.close()

    def _read_on(self) -> int:
        """Read into the chunk that is being read, or into the head; the number of bytes."""
        if self._body is not None:
            room = memoryview(self._body)[self._have :]
        else:
            self._head[: self._end - self._begin] = self._head[self._begin : self._end]
            self._begin, self._end = 0, self._end - self._begin
            room = memoryview(self._head)[self._end :]
        try:
            count = self._inner.recv_into(room)
        except NOTHING_NOW:
            self.drained = True
            return 0
        except OSError as error:
            self._failure = error
            count = 0
        if not count:
            self._for_paho = 1  # it is told how the link ended when it reads on
            self._begin = self._end = 0
        elif self._body is not None:
            self._have += count
            self._take_if_whole(self._body)
        else:
            self._end += count
        return count

    def _understood(self) -> bool:
        """Look at the packet that begins in the head: a chunk, or one for paho; False: too little.

        What is not as it should be is paho's to refuse.
        """
        head, begin, end = self._head, self._begin, self._end
        at, size = begin + 1, 0
        for shift in (0, 7, 14, 21):
            if at >= end:
                return False
            size |= (head[at] & 0x7F) << shift
            at += 1
            if head[at - 1] < 0x80:
                break
        whole = at - begin + size
        if head[begin] & ~RETAIN != PUBLISH or size <= 2:
            self._for_paho = whole
            return True
        if at + 2 > end:
            return False
        start = at + 2 + int.from_bytes(head[at : at + 2], "big")
        length = at + size - start
        if not 0 < length <= _LONGEST_CHUNK or start - at > _LONGEST_TOPIC:
            self._for_paho = whole
            return True
        if start >= end:
            return False
        if head[start] != FRAME_MARK:
            self._for_paho = whole
            return True
        try:
            self._topic = head[at + 2 : start].decode()
        except UnicodeDecodeError:
            self._for_paho = whole
            return True
        self._retained = bool(head[begin] & RETAIN)
        self._have = min(length, end - start)
        self._body = bytearray(length)
        self._body[: self._have] = memoryview(head)[start : start + self._have]
        self._begin = start + self._have
        self._take_if_whole(self._body)
        return True

    def _take_if_whole(self, body: bytearray) -> None:
        if self._have == len(body):
            self._body = None
            self._take(self._topic, bytes(body), self._retained)
