"""What becomes of an offer: refused, put off, or taken in, screened and judged.

Welcome or not is decided from the offer (`admission`), before megabytes move; the chunks are the
business of `uploads`; then the verdict goes into the ledger, and from there to the device
(`judgement`).
"""

from __future__ import annotations

from config.settings import CoordinatorSettings
from coordinator.admission import objection
from coordinator.judgement import Judgement
from coordinator.patience import Patience
from coordinator.progression import Progression
from coordinator.storage import REASON, Storage
from coordinator.uploads import Uploads
from coordinator.vocabulary import Accepted, CoordinatorEffect, Judge, Screened, UpdateId
from federation.machine import Moment
from federation.messages import Offer, Reason

COOLING = "cooling down: other devices have their turn"
TOO_OFTEN = "refused too often"


class Ingestion:
    """The way of an update, from its offer to its receipt."""

    def __init__(
        self,
        ledger: bytes,
        settings: CoordinatorSettings,
        uploads: Uploads,
        judgement: Judgement,
        progression: Progression,
        storage: Storage,
    ) -> None:
        self._ledger = ledger
        self._max_staleness = settings.aggregation.max_staleness
        self._norm_limit = settings.aggregation.norm_limit
        self._patience = Patience()
        self._uploads = uploads
        self._judgement = judgement
        self._progression = progression
        self._storage = storage

    def offer(self, device: str, offer: Offer, at: Moment) -> list[CoordinatorEffect]:
        """A device has an update."""
        id = UpdateId(device, offer.outbox, offer.sequence)
        if self._judgement.is_settled(id):
            return self._judgement.repeat(id)
        if self._uploads.is_screening(device):
            return []  # the verdict is on its way; what else the device has, it offers again
        if (wait_s := self._patience.wait_s(device, at)) > 0:
            return [self._uploads.put_off(id, TOO_OFTEN, at, wait_s)]
        if (refusal := self._objection(device, offer)) is not None:
            reason, detail = refusal
            dropped = self._uploads.drop(device)
            return [*dropped, Judge(id, offer, refusal=reason, detail=detail)]
        if self._storage.blocked:
            return [self._uploads.put_off(id, REASON, at)]
        if (turn_s := self._progression.wait_s(device, at)) is not None:
            return [self._uploads.put_off(id, COOLING, at, turn_s)]
        return self._uploads.offered(id, offer, at)

    def screened(self, event: Screened) -> list[CoordinatorEffect]:
        """An upload is complete, and was looked at."""
        offer = self._uploads.screened(event.id)
        if offer is None:
            return []
        # Versions may have come about while the chunks were under way.
        reason, detail = self._objection(event.id.device, offer) or (None, "")
        if event.refusal is not None:
            reason, detail = event.refusal, event.detail
        if reason is None:
            reason, detail = self._too_long(event.norm) or (None, "")
        return [Judge(event.id, offer, event.norm, reason, detail)]

    def judged(self, verdict: Judge, at: Moment) -> list[CoordinatorEffect]:
        """The ledger has the verdict: tell the device, and use what was accepted."""
        self._uploads.forget(verdict.id)
        told = self._storage.worked()
        if verdict.refusal is not None:
            self._patience.refused(verdict.id.device, at)
            told += self._judgement.refused(verdict)
            return told + self._progression.refused(verdict.id, verdict.refusal)
        offer = verdict.offer
        accepted = Accepted(verdict.id, offer.base_version, offer.examples, verdict.norm)
        self._progression.accept(accepted, at)
        return told + self._judgement.accepted(verdict, self._progression.current.version)

    def _objection(self, device: str, offer: Offer) -> tuple[Reason, str] | None:
        if (why := self._progression.standing.why(device)) is not None:
            return Reason.QUARANTINED, f"{device} is in quarantine: {why}"
        current, next_base = self._progression.current, self._progression.next_base
        seals = self._progression.seals
        return objection(offer, self._ledger, current, next_base, self._max_staleness, seals)

    def _too_long(self, norm: float) -> tuple[Reason, str] | None:
        usual = self._progression.median_norm
        if usual is None or self._norm_limit is None or norm <= self._norm_limit * usual:
            return None
        detail = f"norm {norm:.3g} is over {self._norm_limit:g} times the median, {usual:.3g}"
        return Reason.NORM, detail
