"""How one version gets onto a device: a subscription is the request, the retained chunk the reply.

What the broker does not deliver within a moment (it was restarted, its nodes do not share what is
retained, the slot holds a newer version) is requested from the coordinator itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from config.settings import Transfer
from device_agent.vocabulary import AgentEffect, StoreChunk
from federation.machine import Moment, Publish, Subscribe, Unsubscribe
from federation.messages import Chunk, Header, Request, encode
from federation.topics import Topics
from federation.transfer import Intake, Window

LONGEST_PATIENCE_S = 60.0


class Fetch:
    """The chunks of one version, under way from the broker's cache or from the coordinator."""

    def __init__(
        self,
        header: Header,
        held: Iterable[int],
        topics: Topics,
        device: str,
        transfer: Transfer,
    ) -> None:
        self.header = header
        self.requests = 0
        self._topics = topics
        self._up = topics.up(device)
        self._patience_s = transfer.patience_s
        self._intake = Intake(header.payload, held, Window(transfer.max_window))
        self._open: dict[int, str] = {}

    @property
    def complete(self) -> bool:
        """Whether the whole payload is in the store."""
        return self._intake.complete

    @property
    def fraction(self) -> float:
        """Share of the chunks that are in the store."""
        return self._intake.fraction

    @property
    def due_s(self) -> float:
        """When to look again for chunks that do not come."""
        return self._intake.oldest_ask_s + self._wait_s()

    def advance(self, at: Moment) -> list[AgentEffect]:
        """Subscribe to as many missing chunks as the window has room for."""
        chosen = self._intake.ask(at.now_s)
        if not chosen:
            return []
        fresh = {i: self._topics.model_chunk(self.header.slot, i) for i in chosen}
        self._open.update(fresh)
        return [Subscribe(tuple(fresh.values()))]

    def hurry(self, at: Moment) -> list[AgentEffect]:
        """Request from the coordinator what was subscribed to in vain."""
        late = self._intake.overdue(at.now_s, self._wait_s())
        return self._request(late, at) if late else []

    def chunk(self, chunk: Chunk, index: int, at: Moment) -> list[AgentEffect] | None:
        """Take a chunk that came from the cache or the coordinator; None if it is not believed.

        `index` is the one that the topic names, or the chunk's own where the topic names none.
        """
        if chunk.key > self.header.version and index in self._open:
            # The slot holds a newer version by now: the cache cannot serve this one any more.
            return self._request((index,), at)
        if chunk.key != self.header.version or chunk.index != index:
            return None
        if not self._intake.accepts(index, chunk.data):
            return None
        self.requests = 0
        self._intake.arrived(index, at.now_s)
        effects: list[AgentEffect] = [StoreChunk(self.header, index, chunk.data)]
        if (topic := self._open.pop(index, None)) is not None:
            effects.append(Unsubscribe((topic,)))
        return effects

    def relink(self) -> None:
        """A new connection has no subscriptions: ask anew for what is missing."""
        self._intake.forget_asked()
        self._open.clear()

    def close(self) -> list[AgentEffect]:
        """Give back the subscriptions that are still open."""
        topics, self._open = tuple(self._open.values()), {}
        return [Unsubscribe(topics)] if topics else []

    def _request(self, indices: tuple[int, ...], at: Moment) -> list[AgentEffect]:
        self.requests += 1
        self._intake.postpone(indices, at.now_s)
        request = Request(version=self.header.version, chunks=indices[:64])
        effects: list[AgentEffect] = []
        stale = tuple(self._open.pop(index) for index in indices if index in self._open)
        if stale:
            effects.append(Unsubscribe(stale))
        return [*effects, Publish(self._up, encode(request))]

    def _wait_s(self) -> float:
        return min(LONGEST_PATIENCE_S, self._patience_s * 2.0 ** min(self.requests, 10))
