"""The verdicts on updates: each update is judged once, in the ledger before in a receipt.

A device offers its updates in the order of their sequence numbers, so one number for each outbox,
the greatest that was accepted, tells all that are settled. A refusal settles nothing: if its
receipt is lost, the offer comes again and is refused again.
"""

from __future__ import annotations

from coordinator.vocabulary import CoordinatorEffect, Judge, Report, UpdateId
from federation.machine import Level, Log, Publish
from federation.messages import Reason, Receipt, Verdict, encode
from federation.topics import Topics


class Judgement:
    """What was judged, and how a verdict is told once the ledger has it."""

    def __init__(self, topics: Topics, settled: dict[tuple[str, bytes], int]) -> None:
        self._topics = topics
        self._settled = dict(settled)

    def is_settled(self, id: UpdateId) -> bool:
        """Whether this update was accepted, or came before one that was."""
        return id.sequence <= self._settled.get((id.device, id.outbox), -1)

    def repeat(self, id: UpdateId) -> list[CoordinatorEffect]:
        """Tell once more that an update was judged: its receipt was lost."""
        return [self._receipt(id, Verdict.KNOWN)]

    def accepted(self, verdict: Judge, version: int) -> list[CoordinatorEffect]:
        """An update is in the ledger: tell its device; `version` is the current one."""
        id, offer = verdict.id, verdict.offer
        self._settled[id.device, id.outbox] = id.sequence
        facts = {
            "device": id.device,
            "sequence": id.sequence,
            "base_version": offer.base_version,
            "staleness": version - offer.base_version,
        }
        details = {
            "examples": offer.examples,
            "steps": offer.steps,
            "train_s": offer.train_s,
            "bytes": offer.payload.size,
            "norm": verdict.norm,
            "metrics": offer.metrics,
        }
        return [
            self._receipt(id, Verdict.ACCEPTED),
            Log(Level.INFO, "update accepted", facts),
            Report("update", {**facts, **details}),
        ]

    def refused(self, verdict: Judge) -> list[CoordinatorEffect]:
        """A refusal is in the ledger: tell the device why."""
        id, reason, detail = verdict.id, verdict.refusal, verdict.detail
        facts = {
            "device": id.device,
            "sequence": id.sequence,
            "base_version": verdict.offer.base_version,
            "reason": str(reason),
            "detail": detail,
        }
        return [
            self._receipt(id, Verdict.REFUSED, reason, detail),
            Log(Level.WARNING, "update refused", facts),
            Report("refusal", facts),
        ]

    def _receipt(
        self, id: UpdateId, verdict: Verdict, reason: Reason | None = None, detail: str = ""
    ) -> Publish:
        receipt = Receipt(
            outbox=id.outbox,
            sequence=id.sequence,
            verdict=verdict,
            reason=reason,
            detail=detail[:300],
        )
        return Publish(self._topics.down(id.device), encode(receipt))
