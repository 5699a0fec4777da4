"""How updates leave a device: offered before they are sent, repeated until they are judged.

The oldest update is offered first and alone, so that a slow link carries one at a time. After any
reconnect, and after any silence, it is offered again. That one rule is the whole recovery: what a
`Want` names is sent, what a `Receipt` names is forgotten, and `Pace` puts the next offer off.
On a slow link silence is longer, by how long the coordinator's answers take; and a chunk is sent
once between two offers, for what is wanted twice in that time is still under way.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import inf

from device_agent.vocabulary import AgentEffect, Forget, SendChunk
from federation.machine import Level, Log, Moment, Publish
from federation.messages import Header, Offer, Pace, Receipt, Verdict, Want, encode

LONGEST_SILENCE_S = 60.0
SPREAD_S = 1.0
FEW = 3.0
TOO_MANY = 4


class Delivery:
    """The updates that the coordinator has not judged yet, oldest first."""

    def __init__(self, topic: str, offers: Iterable[Offer], silence_s: float) -> None:
        self._topic = topic
        self._offers = {offer.sequence: offer for offer in offers}
        self._silence_s = silence_s
        self._attempts = 0
        self.open = False
        self._due_s = inf
        self._answer_s = 0.0
        self._waiting_s = inf  # since when an answer is waited for
        self._sent: set[tuple[int, int]] = set()
        self._leaving: set[int] = set()  # judged, and perhaps in the outbox still

    def __len__(self) -> int:
        return len(self._offers)

    def may_add(self, header: Header) -> bool:
        """Whether one more update on this version could still be welcome.

        The k-th of them enters k - 1 versions later at the earliest.
        """
        bases = ((offer.ledger, offer.base_version) for offer in self._offers.values())
        return (
            sum(base == (header.ledger, header.version) for base in bases) <= header.max_staleness
        )

    def has_room(self, header: Header | None, limit: int) -> bool:
        """Whether the outbox could take an update on this version.

        With a memory it has to be empty: what is new against the memory can be told only once it
        is known what became of the last update.

        Args:
            limit: most updates without.
        """
        if header is not None and header.plan.memory:
            return not self._offers and not self._leaving
        return len(self._offers) < limit

    def forgotten(self, sequence: int) -> None:
        """A judged update is no longer in the outbox."""
        self._leaving.discard(sequence)

    @property
    def due_s(self) -> float:
        """When the oldest update is to be offered (again)."""
        return self._due_s if self.open and self._offers else inf

    def add(self, offer: Offer, at: Moment) -> list[AgentEffect]:
        """An update was committed to the outbox."""
        self._offers[offer.sequence] = offer
        if len(self._offers) == 1:
            self._begin(at.now_s)
        facts = {
            "version": offer.base_version,
            "sequence": offer.sequence,
            "bytes": offer.payload.size,
            "train_s": round(offer.train_s, 1),
            "examples": offer.examples,
            **_shown(offer.metrics),
        }
        return [Log(Level.INFO, "update in outbox", facts)]

    def resume(self, at: Moment, spread_s: float = SPREAD_S) -> None:
        """The coordinator can be reached (again); offers are spread over a moment."""
        self.open = True
        self._answer_s = 0.0
        self._begin(at.now_s + at.chance * spread_s)

    def pause(self) -> None:
        """The coordinator cannot be reached."""
        self.open = False

    def advance(self, at: Moment) -> list[AgentEffect]:
        """Offer the oldest update if it is time."""
        if at.now_s < self.due_s:
            return []
        self._wait(at)
        self._waiting_s = min(self._waiting_s, at.now_s)
        self._attempts = min(self._attempts + 1, 20)
        self._sent.clear()
        return [Publish(self._topic, encode(self._oldest()))]

    def want(self, want: Want, at: Moment) -> list[AgentEffect]:
        """Send the chunks that the coordinator gave credit for."""
        offer = self._offers.get(want.sequence)
        if offer is None or want.outbox != offer.outbox:
            return []
        if self._attempts < TOO_MANY:  # else the coordinator was away, rather than slow
            self._answer_s = max(at.now_s - self._waiting_s, self._answer_s / 2)
        self._attempts = 0
        self._waiting_s = at.now_s
        self._wait(at)
        named = dict.fromkeys((want.sequence, i) for i in want.chunks if i < offer.payload.count)
        fresh = [one for one in named if one not in self._sent]
        self._sent.update(fresh)
        return [SendChunk(sequence, index) for sequence, index in fresh]

    def receipt(self, receipt: Receipt, at: Moment) -> list[AgentEffect]:
        """Forget an update that was judged, and go on with the next one."""
        offer = self._offers.get(receipt.sequence)
        if offer is None or receipt.outbox != offer.outbox:
            return []
        del self._offers[receipt.sequence]
        self._leaving.add(receipt.sequence)
        self._begin(at.now_s)
        facts = {"sequence": receipt.sequence, "base_version": offer.base_version}
        if receipt.verdict is Verdict.REFUSED:
            reason = f"{receipt.reason}: {receipt.detail}"
            told = Log(Level.WARNING, "update refused", {**facts, "reason": reason})
        else:
            told = Log(Level.INFO, f"update {receipt.verdict}", facts)
        # With a memory the outbox holds one: what is known was accepted, not a later one. What
        # was refused is refused anew, with its reason.
        return [Forget(receipt.sequence, receipt.verdict is not Verdict.REFUSED), told]

    def pace(self, pace: Pace, at: Moment) -> list[AgentEffect]:
        """Offer again later, as the coordinator asks."""
        offer = self._offers.get(pace.sequence)
        if offer is None or pace.outbox != offer.outbox:
            return []
        self._attempts = 0
        self._waiting_s = inf
        self._due_s = at.now_s + pace.wait_s * (1 + 0.25 * at.chance)
        facts = {"sequence": pace.sequence, "wait_s": pace.wait_s, "reason": pace.reason}
        return [Log(Level.INFO, "update put off", facts)]

    def _oldest(self) -> Offer:
        return self._offers[min(self._offers)]

    def _wait(self, at: Moment) -> None:
        silence_s = max(self._silence_s, FEW * self._answer_s)
        wait_s = min(LONGEST_SILENCE_S, silence_s * 2.0**self._attempts)
        self._due_s = at.now_s + wait_s * (0.75 + 0.5 * at.chance)

    def _begin(self, due_s: float) -> None:
        self._waiting_s = inf
        self._attempts = 0
        self._due_s = due_s


def _shown(metrics: dict[str, float]) -> dict[str, float]:
    """What a log line has of them: of a privacy account its epsilon, as the rest is the rule."""
    rule = {name for name in metrics if name.startswith("privacy_")} - {"privacy_epsilon"}
    return {name: value for name, value in metrics.items() if name not in rule}
