"""A version goes out to all: its chunks, as fast as the link takes them, and then its header.

Once more after the link broke: then its header first, as on a link that breaks often the last
message might never be reached. What the broker's cache lacks then, devices request.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import chain

from config.failures import ExitCode, Failure
from coordinator.versions import Versions
from coordinator.vocabulary import Announce, ServeChunk
from federation.machine import Publish
from federation.messages import Chunk, Header, MessageError, encode
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
        self._begun: int | None = None

    def announce(self, order: Announce) -> None:
        """Begin to publish a version."""
        header = Publish(self._topics.model, order.header, retain=True)
        chunks = self._chunks(order)
        is_again = self._begun == order.info.version
        self._begun = order.info.version
        self._bulk = chain((header,), chunks) if is_again else chain(chunks, (header,))
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
        if self._session.backlog_bytes >= HIGH_WATER_BYTES:
            return  # the device asks again
        data = self._versions.chunk(order.version, order.index)
        if data is not None:
            chunk = Chunk(order.version, order.index, data).encode()
            self._session.publish(Publish(order.topic, chunk, qos=0))

    def _chunks(self, order: Announce) -> Iterator[Publish]:
        version = order.info.version
        for index in range(order.info.payload.count):
            data = self._versions.chunk(version, index)
            if data is None:
                return  # it was deleted: a newer version is about to be announced
            topic = self._topics.model_chunk(order.slot, index)
            yield Publish(topic, Chunk(version, index, data).encode(), qos=0, retain=True)


def require_encodable(header: Header) -> None:
    """Say at the start, not in the middle, that a header is too large to be published."""
    try:
        encode(header)
    except MessageError as error:
        raise Failure(ExitCode.CONFIG, f"transfer.chunk_bytes: {error}") from None
