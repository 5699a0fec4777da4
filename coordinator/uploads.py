"""The uploads under way: one a device, each an intake whose credit is told by `Want`.

A device offers its updates one by one, so a second one means that the first is over, or that the
device was wiped. Nothing of an upload's bytes is held here; the spool has them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from config.settings import Transfer, UploadLimits
from coordinator.vocabulary import (
    CoordinatorEffect,
    DropUpload,
    OpenUpload,
    Screen,
    Sweep,
    UpdateId,
    WriteChunk,
)
from federation.machine import Moment, Publish
from federation.messages import Chunk, Offer, Pace, Want, encode
from federation.topics import Topics
from federation.transfer import Intake, Window

SWEEP_S = 600.0
IDLE_S = 600.0
MAKE_ROOM_S = 30.0
ASK_AGAIN_S = 1.0
PACE_S = 5.0


@dataclass(slots=True)
class Upload:
    """One update on its way in; without an intake while the spool is made ready."""

    id: UpdateId
    offer: Offer
    window: Window
    last_s: float
    intake: Intake | None = None
    screening: bool = False


class Uploads:
    """All uploads under way."""

    def __init__(self, topics: Topics, transfer: Transfer, limits: UploadLimits) -> None:
        self._topics = topics
        self._max_window = transfer.max_window
        self._limits = limits
        self._uploads: dict[str, Upload] = {}
        self._sweep_s: float | None = None

    def __len__(self) -> int:
        return len(self._uploads)

    @property
    def due_s(self) -> float:
        """When the longest idle upload is to be given up, or the spool to be swept."""
        waiting = (u.last_s for u in self._uploads.values() if not u.screening)
        sweep_s = inf if self._sweep_s is None else self._sweep_s
        return min(min(waiting, default=inf) + IDLE_S, sweep_s)

    def is_screening(self, device: str) -> bool:
        """Whether an upload of this device is complete and about to be judged."""
        upload = self._uploads.get(device)
        return upload is not None and upload.screening

    def offered(self, id: UpdateId, offer: Offer, at: Moment) -> list[CoordinatorEffect]:
        """A welcome offer: begin, or go on where it broke; not while one is being screened."""
        upload = self._uploads.get(id.device)
        if upload is not None and upload.id == id:
            upload.last_s = at.now_s
            if upload.intake is None:
                return []
            # On a slow link the offer may have left before chunks that are under way. A device
            # that is asked too early sends nothing twice; a lost chunk waits no longer than this.
            older_s = max(ASK_AGAIN_S, upload.intake.delay_s)
            upload.intake.forget_asked(at.now_s, older_s)
            return self._go_on(upload, upload.intake, at)
        effects: list[CoordinatorEffect] = []
        if upload is not None:
            effects += self.drop(id.device)
        if not self._has_room(offer):
            self._make_room(at)
        if not self._has_room(offer):
            return [*effects, self.put_off(id, "too many uploads under way", at)]
        self._uploads[id.device] = Upload(id, offer, Window(self._max_window), at.now_s)
        return [*effects, OpenUpload(id, offer.payload)]

    def relinked(self, device: str) -> None:
        """A device has a new connection: what was under way is lost with the last one."""
        upload = self._uploads.get(device)
        if upload is not None and upload.intake is not None:
            upload.intake.forget_asked()

    def opened(self, id: UpdateId, held: frozenset[int], at: Moment) -> list[CoordinatorEffect]:
        """The spool is ready."""
        upload = self._find(id)
        if upload is None or upload.intake is not None:
            return []
        upload.intake = Intake(upload.offer.payload, held, upload.window)
        return self._go_on(upload, upload.intake, at)

    def chunk(self, device: str, chunk: Chunk, at: Moment) -> list[CoordinatorEffect] | None:
        """A chunk came; None if it is not one that is missing, whole and unaltered."""
        upload = self._uploads.get(device)
        if upload is None or upload.intake is None or upload.id.sequence != chunk.key:
            return None
        intake = upload.intake
        if not intake.accepts(chunk.index, chunk.data):
            return None
        upload.last_s = at.now_s
        intake.arrived(chunk.index, at.now_s)
        offset, _ = intake.manifest.extent(chunk.index)
        write = WriteChunk(upload.id, offset, chunk.data)
        return [write, *self._go_on(upload, intake, at)]

    def put_off(
        self, id: UpdateId, reason: str, at: Moment, wait_s: float | None = None
    ) -> Publish:
        """Ask a device to offer its update later; for want of room, so that not all come at once"""
        if wait_s is None:
            wait_s = PACE_S * (1 + at.chance)
        pace = Pace(outbox=id.outbox, sequence=id.sequence, wait_s=wait_s, reason=reason)
        return self._tell(id.device, encode(pace))

    def screened(self, id: UpdateId) -> Offer | None:
        """The upload was screened: its offer, unless it is under way no more."""
        upload = self._find(id)
        return upload.offer if upload is not None and upload.screening else None

    def forget(self, id: UpdateId) -> None:
        """It is under way no more: judged, or there was no room. The spool keeps what has come."""
        if self._find(id) is not None:
            del self._uploads[id.device]

    def drop(self, device: str) -> list[CoordinatorEffect]:
        """Give up what a device has under way."""
        upload = self._uploads.pop(device, None)
        return [DropUpload(upload.id)] if upload is not None else []

    def expire(self, at: Moment) -> list[CoordinatorEffect]:
        """Forget uploads that have been idle for long; now and then, have the spool swept."""
        for device, upload in list(self._uploads.items()):
            if at.now_s - upload.last_s >= IDLE_S and not upload.screening:
                del self._uploads[device]
        if self._sweep_s is None:
            self._sweep_s = at.now_s + SWEEP_S
        if at.now_s < self._sweep_s:
            return []
        self._sweep_s = at.now_s + SWEEP_S
        return [Sweep(frozenset(upload.id for upload in self._uploads.values()))]

    def _has_room(self, offer: Offer) -> bool:
        if len(self._uploads) >= self._limits.at_once:
            return False
        under_way = sum(upload.offer.payload.size for upload in self._uploads.values())
        # One always has room, lest a model that is larger than the quota were never learned.
        return not self._uploads or under_way + offer.payload.size <= self._limits.quota_bytes

    def _make_room(self, at: Moment) -> None:
        """Forget the longest idle upload, if it is idle at all; the spool keeps what has come."""
        waiting = (u for u in self._uploads.values() if not u.screening)
        idlest = min(waiting, key=lambda u: u.last_s, default=None)
        if idlest is not None and at.now_s - idlest.last_s > MAKE_ROOM_S:
            del self._uploads[idlest.id.device]

    def _go_on(self, upload: Upload, intake: Intake, at: Moment) -> list[CoordinatorEffect]:
        if intake.complete:
            upload.screening = True
            return [Screen(upload.id, upload.offer)]
        chosen = intake.ask(at.now_s)
        if not chosen:
            return []
        want = Want(outbox=upload.id.outbox, sequence=upload.id.sequence, chunks=chosen)
        return [self._tell(upload.id.device, encode(want))]

    def _find(self, id: UpdateId) -> Upload | None:
        upload = self._uploads.get(id.device)
        return upload if upload is not None and upload.id == id else None

    def _tell(self, device: str, payload: bytes) -> Publish:
        return Publish(self._topics.down(device), payload)
