"""How one version gets onto a device: a subscription is the request, the retained chunk the reply.

What the broker does not deliver within a moment (it was restarted, its nodes do not share what is
retained, the slot holds a newer version) is requested from the coordinator itself. On a slow link
it may be under way all the same: so one chunk is requested first, ever more patiently until it is
known how long a chunk takes, and nothing while others arrive.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from config.settings import Transfer
from device_agent.vocabulary import AgentEffect, StoreChunk
from federation.machine import Moment, Publish, Subscribe, Unsubscribe
from federation.messages import Chunk, Header, Request, encode
from federation.topics import Topics
from federation.transfer import Intake, window_for

LONGEST_PATIENCE_S = 60.0
FEW = 3.0


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
        window = window_for(header.payload, transfer.max_window)
        self._intake = Intake(header.payload, held, window)
        self._open: dict[int, str] = {}
        self._served: list[str] = []  # subscriptions that are given back with the next asking
        self._backoff = 0
        self._heard_s = -inf  # the last arrival or request
        self._uncached = False

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
        return max(self._intake.oldest_ask_s, self._heard_s) + self._wait_s()

    def advance(self, at: Moment) -> list[AgentEffect]:
        """Subscribe to as many missing chunks as the window has room for."""
        chosen = self._intake.ask(at.now_s)
        if not chosen:
            return []
        if self._uncached:
            return [*self._give_back(), self._ask_coordinator(chosen)]
        fresh = {i: self._topics.model_chunk(self.header.slot, i) for i in chosen}
        self._open.update(fresh)
        return [*self._give_back(), Subscribe(tuple(fresh.values()))]

    def hurry(self, at: Moment) -> list[AgentEffect]:
        """Request from the coordinator what was subscribed to in vain."""
        if at.now_s < self.due_s:
            return []
        late = self._intake.overdue(at.now_s, self._wait_s())[:1]
        self._backoff += 1
        self._heard_s = at.now_s
        self._intake.postpone(late, at.now_s)
        return self._request(late)

    def chunk(self, chunk: Chunk, index: int, at: Moment) -> list[AgentEffect] | None:
        """Take a chunk that came from the cache or the coordinator; None if it is not believed.

        `index` is the one that the topic names, or the chunk's own where the topic names none.
        """
        if chunk.key > self.header.version and index in self._open:
            # The slot holds a newer version by now: the cache cannot serve this one any more.
            self._uncached = True
            self._intake.ask_elsewhere(index, at.now_s)
            return self._request((index,))
        if chunk.key != self.header.version or chunk.index != index:
            return None
        if not self._intake.accepts(index, chunk.data):
            return None
        self._learn(index, at)
        self._intake.arrived(index, at.now_s)
        if (topic := self._open.pop(index, None)) is not None:
            self._served.append(topic)
        return [StoreChunk(self.header, index, chunk.data)]

    def relink(self) -> None:
        """A new connection has no subscriptions: ask anew for what is missing."""
        self._intake.forget_asked()
        self._open.clear()
        self._served.clear()
        self._backoff = 0
        self._heard_s = -inf
        self._uncached = False

    def close(self) -> list[AgentEffect]:
        """Give back the subscriptions that are still open."""
        self._served += self._open.values()
        self._open = {}
        return self._give_back()

    def _request(self, indices: tuple[int, ...]) -> list[AgentEffect]:
        self.requests += 1
        self._served += [self._open.pop(index) for index in indices if index in self._open]
        return [*self._give_back(), self._ask_coordinator(indices)]

    def _give_back(self) -> list[AgentEffect]:
        topics, self._served = tuple(self._served), []
        return [Unsubscribe(topics)] if topics else []

    def _ask_coordinator(self, indices: tuple[int, ...]) -> Publish:
        return Publish(self._up, encode(Request(version=self.header.version, chunks=indices[:64])))

    def _learn(self, index: int, at: Moment) -> None:
        self.requests = 0
        self._heard_s = at.now_s
        if self._intake.asked_once(index):
            self._backoff = 0
            self._uncached = self._uncached and index not in self._open
        else:
            # The next are asked for there too, until a subscription shows that the cache was slow.
            self._uncached = True

    def _wait_s(self) -> float:
        patience_s = max(self._patience_s, FEW * self._intake.delay_s)
        return min(LONGEST_PATIENCE_S, patience_s * 2.0 ** min(self._backoff, 10))
