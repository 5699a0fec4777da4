"""A version goes out to all: its chunks, as fast as the link takes them, and then its header."""

from __future__ import annotations

import time
from collections.abc import Iterator

from coordinator.versions import Versions
from coordinator.vocabulary import Announce, ServeChunk
from federation.machine import Publish
from federation.messages import Chunk
from federation.session import HIGH_WATER_BYTES, Session
from federation.topics import Topics

FAREWELL_S = 10.0


class Broadcast:
    """What is being published of the current version; a newer one takes its place."""

    def __init__(self, session: Session, versions: Versions, topics: Topics) -> None:
        self._session = session
        self._versions = versions
        self._topics = topics
        self._bulk: Iterator[Publish] = iter(())

    def announce(self, order: Announce) -> None:
        """Begin to publish a version."""
        self._bulk = self._announcement(order)
        self.go_on()

    def go_on(self) -> bool:
        """Publish while there is room; whether everything is out."""
        while self._session.backlog_bytes < HIGH_WATER_BYTES:
            message = next(self._bulk, None)
            if message is None:
                return True
            if not self._session.publish(message):
                # The link broke: the core announces anew when it is back.
                self._bulk = iter(())
                return True
        return False

    def finish(self) -> None:
        """Wait a little until everything is out: nobody will go on with it."""
        end_s = time.monotonic() + FAREWELL_S
        while time.monotonic() < end_s:
            if self.go_on() and self._session.backlog_bytes == 0:
                return
            time.sleep(0.02)

    def serve(self, order: ServeChunk) -> None:
        """Publish one chunk for one device, if it is still stored."""
        data = self._versions.chunk(order.version, order.index)
        # Without room it is left out: the device asks again.
        if data is not None and self._session.backlog_bytes < HIGH_WATER_BYTES:
            chunk = Chunk(order.version, order.index, data).encode()
            self._session.publish(Publish(order.topic, chunk, qos=0))

    def _announcement(self, order: Announce) -> Iterator[Publish]:
        version = order.info.version
        for index in range(order.info.payload.count):
            data = self._versions.chunk(version, index)
            if data is None:
                return
            topic = self._topics.model_chunk(order.slot, index)
            yield Publish(topic, Chunk(version, index, data).encode(), qos=0, retain=True)
        yield Publish(self._topics.model, order.header, retain=True)
