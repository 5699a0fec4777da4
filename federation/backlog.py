"""Chunks on their way out: counted from when they are handed to paho until the kernel has them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from federation.chunk_link import PUBLISH, RETAIN
from federation.machine import Publish
from federation.session import LOW_WATER_BYTES


class Backlog:
    """How much waits to leave.

    Attributes:
        carried_bytes: what has left.
    """

    def __init__(self, drained: Callable[[], object]) -> None:
        """Nothing waits.

        Args:
            drained: called, by the thread that writes, each time that little is left.
        """
        self.carried_bytes = 0
        self._drained = drained
        self._bytes = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Bytes of payloads."""
        return self._bytes

    def add(self, size: int) -> Leaving:
        """So much was handed over; what to tell when it has left."""
        with self._lock:
            self._bytes += size
        return Leaving(self._left, size)

    def _left(self, size: int) -> None:
        self.carried_bytes += size
        with self._lock:
            before, self._bytes = self._bytes, self._bytes - size
        if before >= LOW_WATER_BYTES > before - size:
            self._drained()


class Leaving:
    """What paho tells that a packet has left, as if it were its own `MQTTMessageInfo`."""

    __slots__ = ("_left", "_size")

    def __init__(self, left: Callable[[int], None], size: int) -> None:
        self._left = left
        self._size = size

    def _set_as_published(self) -> None:
        self._left(self._size)


def packet_of(message: Publish) -> memoryview:
    """A PUBLISH of QoS 0, whole: what paho cuts off it when the kernel takes a part is no copy."""
    topic = message.topic.encode()
    size = 2 + len(topic) + len(message.payload)
    head = bytearray((PUBLISH | (RETAIN if message.retain else 0),))
    while True:
        size, digit = size >> 7, size & 0x7F
        head.append(digit | 0x80 if size else digit)
        if not size:
            break
    head += len(topic).to_bytes(2, "big") + topic
    return memoryview(b"".join((head, message.payload)))
