"""The session's twin in memory: a broker in virtual time that misbehaves by a seed.

It keeps the promises of MQTT 3.1.1 that Flockwise builds on (retained messages, wills, clean
sessions, take-over of a client id), and breaks what a network may break: on the way to the broker
and on the way from it, messages are lost, doubled, delayed and so reordered, and links are cut.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from federation.line import Line
from federation.machine import Linked, Publish, Received, Unlinked
from federation.session import Identity, Inbox
from federation.virtual_time import VirtualTime


@dataclass(frozen=True, slots=True)
class Faults:
    """What the network does to each message on each of its two ways; probabilities in [0, 1].

    Attributes:
        loss: the message vanishes.
        duplication: it comes twice.
        cut: the link of its sender breaks just before it.
        delay_s: least and longest time under way; drawn for each message, so order is not kept
            if they differ.
        bandwidth: bytes per second that the link of each client carries each way, one message
            after another; None is without limit.
    """

    loss: float = 0.0
    duplication: float = 0.0
    cut: float = 0.0
    delay_s: tuple[float, float] = (0.001, 0.001)
    bandwidth: float | None = None


class LoopbackBroker:
    """Retained messages, subscriptions and wills of all sessions on one virtual clock."""

    def __init__(self, time: VirtualTime, faults: Faults = Faults(), seed: int = 0) -> None:
        self.time = time
        self.faults = faults
        self.retained: dict[str, bytes] = {}
        self._sessions: dict[str, LoopbackSession] = {}
        # Who listens to a topic, and who to patterns: a fleet would be long to go through.
        self._listeners: dict[str, set[LoopbackSession]] = {}
        self._patterned: set[LoopbackSession] = set()
        self._attached = 0
        self._random = random.Random(seed)

    def forget_everything(self) -> None:
        """Be a broker that was killed and came back empty: every link breaks."""
        self.retained.clear()
        # Detached before they are cut: a broker that is gone publishes no wills.
        sessions, self._sessions = self._sessions, {}
        self._listeners.clear()
        self._patterned.clear()
        for session in sessions.values():
            session.cut("the broker was restarted")

    def attach(self, session: LoopbackSession) -> None:
        """Accept a connection; an older one with the same client id is taken down."""
        if (older := self._sessions.get(session.client_id)) is not None:
            older.cut("another client took the id over")
        self._sessions[session.client_id] = session
        self._attached += 1
        session.place = self._attached

    def detach(self, session: LoopbackSession) -> bool:
        """Forget a connection with its subscriptions; whether it was known."""
        if self._sessions.get(session.client_id) is not session:
            return False
        self.listen(session, session.filters, frozenset())
        del self._sessions[session.client_id]
        return True

    def carry(self, message: Publish) -> None:
        """Take a message from a client to all who subscribed, by way of the faults."""
        for delay_s in self._fates():
            self.time.call_in(delay_s, lambda: self.accept(message))

    def accept(self, message: Publish) -> None:
        """The message is at the broker: keep it if it is retained, hand it out."""
        if message.retain:
            if message.payload:
                self.retained[message.topic] = message.payload
            else:
                self.retained.pop(message.topic, None)
        listening = self._listeners.get(message.topic, set()) | self._patterned
        for session in sorted(listening, key=lambda session: session.place):
            if session.listens_to(message.topic):
                self.hand_over(session, Received(message.topic, message.payload))

    def listen(self, session: LoopbackSession, before: Set[str], after: Set[str]) -> None:
        """The filters of a session have changed."""
        for topic in before - after:
            listeners = self._listeners.get(topic, set())
            listeners.discard(session)
            if not listeners:
                self._listeners.pop(topic, None)
        for topic in after - before:
            self._listeners.setdefault(topic, set()).add(session)
        if any("+" in one for one in after):
            self._patterned.add(session)
        else:
            self._patterned.discard(session)

    def hand_over(self, session: LoopbackSession, received: Received) -> None:
        """Take a message from the broker to one client, by way of the faults."""
        connection = session.connection
        for delay_s in self._fates():
            due_s = session.downlink.carried_s(len(received.payload)) + delay_s
            self.time.call_at(due_s, lambda: session.receive(received, connection))

    def hand_retained(self, session: LoopbackSession, filters: Sequence[str]) -> None:
        """What a new subscription brings at once."""
        for topic, payload in list(self.retained.items()):
            if any(_matches(pattern, topic) for pattern in filters):
                self.hand_over(session, Received(topic, payload, retained=True))

    def wants_to_cut(self) -> bool:
        """Whether the next message breaks the link of its sender."""
        return self._random.random() < self.faults.cut

    def waits_s(self) -> float:
        """How long a client waits before it connects again."""
        return self._random.uniform(0.1, 2.0)

    def _fates(self) -> list[float]:
        """The delay of each copy of one message: none if it is lost, two if it is doubled."""
        if self._random.random() < self.faults.loss:
            return []
        copies = 2 if self._random.random() < self.faults.duplication else 1
        return [self._random.uniform(*self.faults.delay_s) for _ in range(copies)]


class LoopbackSession:
    """One client of a `LoopbackBroker`; the same interface as `PahoSession`."""

    def __init__(
        self,
        broker: LoopbackBroker,
        identity: Identity,
        inbox: Inbox,
        bandwidth: float | None = None,
    ) -> None:
        """Make a client, with a bandwidth of its own, or else as the broker's faults have it."""
        self._broker = broker
        self._bandwidth = broker.faults.bandwidth if bandwidth is None else bandwidth
        self._identity = identity
        self._inbox = inbox
        self.filters: frozenset[str] = frozenset()
        self._patterns: tuple[str, ...] = ()  # those of the filters that are no exact topics
        self._linked = False
        self._stopped = False
        self._away = False
        self._sent_bytes = 0
        self._received_bytes = 0
        self.connection = 0
        self.place = 0  # among those that are attached
        self._new_lines()

    @property
    def client_id(self) -> str:
        """The MQTT client id."""
        return self._identity.client_id

    @property
    def backlog_bytes(self) -> int:
        """Bytes that were published and have not left yet."""
        return self.uplink.backlog_bytes

    @property
    def disbelieved(self) -> Mapping[str, int]:
        """Nothing: it carries bytes, and asks nobody what they mean."""
        return {}

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of payloads sent and received since the session was made."""
        return self._sent_bytes, self._received_bytes

    def start(self) -> None:
        """Connect a moment from now."""
        self._broker.time.call_in(0.001, self._connect)

    def publish(self, message: Publish) -> bool:
        """Send, unless there is no link; the faults may break it here."""
        if self._linked and self._broker.wants_to_cut():
            self.cut("the link was cut")
        if not self._linked:
            return False
        self._sent_bytes += len(message.payload)
        connection = self.connection
        if self._bandwidth is None:
            self._broker.carry(message)
        else:
            due_s = self.uplink.carried_s(len(message.payload))
            self._broker.time.call_at(due_s, lambda: self._left(message, connection))
        return True

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe; retained messages follow."""
        if self._linked:
            self._listen_to(self.filters.union(topics))
            self._broker.hand_retained(self, topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give subscriptions back."""
        self._listen_to(self.filters.difference(topics))

    def stop(self, farewell: Publish | None = None) -> None:
        """Leave in an orderly way: the farewell is heard, the will is not."""
        self._stopped = True
        if self._linked:
            self._linked = False
            self._broker.detach(self)
            if farewell is not None:
                self._broker.accept(farewell)

    def vanish(self) -> None:
        """Be killed: no farewell, the broker publishes the will, nothing is heard any more."""
        self._stopped = True
        self._break()

    def cut(self, reason: str) -> None:
        """Lose the link; the client comes back by itself."""
        if self._linked:
            self._break()
            if not self._stopped:
                self._inbox(Unlinked(reason))
                self._broker.time.call_in(self._broker.waits_s(), self._connect)

    def leave(self) -> None:
        """Lose the link, and have none until `come_back`."""
        self._away = True
        self.cut("away")

    def come_back(self) -> None:
        """Connect again, in a moment."""
        self._away = False
        self._broker.time.call_in(0.001, self._connect)

    def listens_to(self, topic: str) -> bool:
        """Whether a subscription of this connection matches."""
        matches = topic in self.filters or any(_matches(one, topic) for one in self._patterns)
        return self._linked and matches

    def receive(self, received: Received, connection: int) -> None:
        """A message arrived, if the connection it was meant for still stands."""
        if self._linked and connection == self.connection:
            self._received_bytes += len(received.payload)
            self._inbox(received)

    def _listen_to(self, filters: frozenset[str]) -> None:
        self._broker.listen(self, self.filters, filters)
        self.filters = filters
        self._patterns = tuple(sorted(one for one in filters if "+" in one))

    def _connect(self) -> None:
        if self._stopped or self._linked or self._away:
            return
        self.connection += 1
        self._new_lines()
        self._linked = True
        self.filters = frozenset()
        self._listen_to(frozenset(self._identity.filters))
        self._broker.attach(self)
        self._inbox(Linked(self._identity.incarnation(self.connection)))
        self._broker.hand_retained(self, self._identity.filters)

    def _new_lines(self) -> None:
        self.uplink = Line(self._broker.time, self._bandwidth)
        self.downlink = Line(self._broker.time, self._bandwidth)

    def _left(self, message: Publish, connection: int) -> None:
        """What has not left when a connection breaks is lost with it."""
        if self._linked and connection == self.connection:
            self._broker.carry(message)

    def _break(self) -> None:
        if self._linked:
            self._linked = False
            if not self._broker.detach(self):
                return
            will = self._identity.will(self._identity.incarnation(self.connection))
            self._broker.time.call_in(0.05, lambda: self._broker.accept(will))


def _matches(pattern: str, topic: str) -> bool:
    if "+" not in pattern:
        return pattern == topic
    levels, parts = pattern.split("/"), topic.split("/")
    return len(levels) == len(parts) and all(
        level in ("+", part) for level, part in zip(levels, parts, strict=True)
    )
