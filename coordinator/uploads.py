"""The uploads under way: one a device, each an intake whose credit is told by `Want`.

A device offers its updates one by one, so a second one means that the first is over, or that the
device was wiped. Nothing of an upload's bytes is held here; the spool has them. All of them share
what may be under way at a time (`credit`).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from config.settings import Transfer, UploadLimits
from coordinator.credit import Credit
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
from federation.transfer import Intake, Window, window_for

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
        # Those that are not complete, the longest idle first; and the size of all.
        self._incomplete: dict[str, Upload] = {}
        self._bytes = 0
        self._credit = Credit()
        self._sweep_s: float | None = None

    def __len__(self) -> int:
        return len(self._uploads)

    @property
    def due_s(self) -> float:
        """When the longest idle upload is to be given up, the spool to be swept, or a device that
        waits in line may be asked."""
        idle_s = next((u.last_s + IDLE_S for u in self._incomplete.values()), inf)
        sweep_s = inf if self._sweep_s is None else self._sweep_s
        return min(idle_s, sweep_s, self._credit.due_s)

    def is_screening(self, device: str) -> bool:
        """Whether an upload of this device is complete and about to be judged."""
        upload = self._uploads.get(device)
        return upload is not None and upload.screening

    def offered(self, id: UpdateId, offer: Offer, at: Moment) -> list[CoordinatorEffect]:
        """A welcome offer: begin, or go on where it broke; not while one is being screened."""
        upload = self._uploads.get(id.device)
        if upload is not None and upload.id == id:
            self._moved(upload, at)
            if upload.intake is None:
                return []
            # On a slow link the offer may have left before chunks that are under way. A device
            # that is asked too early sends nothing twice; a lost chunk waits no longer than this.
            older_s = max(ASK_AGAIN_S, upload.intake.delay_s)
            upload.intake.forget_asked(at.now_s, older_s)
            self._credit.sent(id.device, _owed_bytes(upload.intake))
            return self._go_on(upload, upload.intake, at)
        effects: list[CoordinatorEffect] = []
        if upload is not None:
            effects += self.drop(id.device)
        if not self._has_room(offer):
            self._make_room(at)
        if not self._has_room(offer):
            return [*effects, self.put_off(id, "too many uploads under way", at)]
        window = window_for(offer.payload, self._max_window)
        begun = Upload(id, offer, window, at.now_s)
        self._uploads[id.device] = self._incomplete[id.device] = begun
        self._bytes += offer.payload.size
        return [*effects, OpenUpload(id, offer.payload)]

    def relinked(self, device: str) -> None:
        """A device has a new connection: what was under way is lost with the last one."""
        upload = self._uploads.get(device)
        if upload is not None and upload.intake is not None:
            upload.intake.forget_asked()
            self._credit.sent(device, 0)

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
        self._moved(upload, at)
        intake.arrived(chunk.index, at.now_s)
        self._credit.sent(device, _owed_bytes(intake))
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
            self._end(id.device)

    def drop(self, device: str) -> list[CoordinatorEffect]:
        """Give up what a device has under way."""
        upload = self._uploads.get(device)
        if upload is None:
            return []
        self._end(device)
        return [DropUpload(upload.id)]

    def expire(self, at: Moment) -> list[CoordinatorEffect]:
        """Forget uploads that have been idle for long; ask those in line for whom there is room;
        now and then, have the spool swept.
        """
        while (idlest := next(iter(self._incomplete.values()), None)) is not None:
            if at.now_s - idlest.last_s < IDLE_S:
                break
            self._end(idlest.id.device)
        return self._ask_in_line(at) + self._sweep(at)

    def _sweep(self, at: Moment) -> list[CoordinatorEffect]:
        if self._sweep_s is None:
            self._sweep_s = at.now_s + SWEEP_S
        if at.now_s < self._sweep_s:
            return []
        self._sweep_s = at.now_s + SWEEP_S
        return [Sweep(frozenset(upload.id for upload in self._uploads.values()))]

    def _has_room(self, offer: Offer) -> bool:
        if len(self._uploads) >= self._limits.at_once:
            return False
        # One always has room, lest a model that is larger than the quota were never learned.
        return not self._uploads or self._bytes + offer.payload.size <= self._limits.quota_bytes

    def _make_room(self, at: Moment) -> None:
        """Forget the longest idle upload, if it is idle at all; the spool keeps what has come."""
        idlest = next(iter(self._incomplete.values()), None)
        if idlest is not None and at.now_s - idlest.last_s > MAKE_ROOM_S:
            self._end(idlest.id.device)

    def _moved(self, upload: Upload, at: Moment) -> None:
        """Something was heard of an upload."""
        upload.last_s = at.now_s
        if self._incomplete.pop(upload.id.device, None) is not None:
            self._incomplete[upload.id.device] = upload

    def _end(self, device: str) -> None:
        """Nothing is under way from this device any more."""
        self._bytes -= self._uploads.pop(device).offer.payload.size
        self._incomplete.pop(device, None)
        self._credit.done(device)

    def _ask_in_line(self, at: Moment) -> list[CoordinatorEffect]:
        effects: list[CoordinatorEffect] = []
        while (device := self._credit.next(at)) is not None:
            upload = self._uploads.get(device)
            if upload is not None and upload.intake is not None:
                effects += self._go_on(upload, upload.intake, at)
        return effects

    def _go_on(self, upload: Upload, intake: Intake, at: Moment) -> list[CoordinatorEffect]:
        if intake.complete:
            upload.screening = True
            del self._incomplete[upload.id.device]
            self._credit.done(upload.id.device)
            return [Screen(upload.id, upload.offer)]
        if self._credit.is_spent:
            self._credit.wait(upload.id.device)
            return []
        chosen = intake.ask(at.now_s)
        if not chosen:
            return []
        self._credit.asked(upload.id.device, _owed_bytes(intake), at)
        want = Want(outbox=upload.id.outbox, sequence=upload.id.sequence, chunks=chosen)
        return [self._tell(upload.id.device, encode(want))]

    def _find(self, id: UpdateId) -> Upload | None:
        upload = self._uploads.get(id.device)
        return upload if upload is not None and upload.id == id else None

    def _tell(self, device: str, payload: bytes) -> Publish:
        return Publish(self._topics.down(device), payload)


def _owed_bytes(intake: Intake) -> int:
    """What was asked for and has not come, about."""
    return min(len(intake.under_way) * intake.manifest.chunk_bytes, intake.manifest.size)
