"""What each device is known for, and who is in quarantine: its updates enter no version.

The rule, for `standing.quarantine = "auto"`. Each contribution gets a mark: 1 if it was more than
`standing.wild_factor` times as long as the bound; 1/2 if more than twice, or if the rule that
combined it left it out; else 0. An offer refused for its shape, its numbers or its norm has mark 1.
The score of a device is the exponential average of its marks, with weight `WEIGHT` for the newest.
A device whose score reaches `standing.threshold`, 0.9, goes into quarantine: after 22 marks of 1 in
a row, or when they are more than nine in ten for long.

Marks of 1/2 never lead there, as honest devices may get one each time: one with much more data than
others sends longer updates, and multi_krum leaves some devices out of every version, those that are
most unlike the others, hostile or not. Neither does harm: a long update is shortened, and one that
is left out is out. Such a score is for people to see. Only a person lets a device out again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from config.aggregation import StandingRules
from coordinator.vocabulary import (
    Contribution,
    CoordinatorEffect,
    Entry,
    Mark,
    Quarantine,
    Report,
    UpdateId,
)
from federation.machine import Level, Log
from federation.messages import Reason

WEIGHT = 0.1
MARKED_VERSIONS = 10_000
OUTSIZE = 2.0
STRANGE = 0.2
TELLING = frozenset({Reason.BAD_SHAPE, Reason.NOT_FINITE, Reason.NORM})


@dataclass(slots=True)
class Known:
    """What one device is known for.

    Attributes:
        clipped, outliers: contributions that were shortened; those with a mark above 0.
        refusals: offers that were refused for what they are, not for when they came.
        score: the exponential average of the marks.
    """

    contributions: int = 0
    clipped: int = 0
    outliers: int = 0
    refusals: int = 0
    score: float = 0.0
    refused: UpdateId | None = None


class Standing:
    """One row for each device, and the quarantine.

    Attributes:
        quarantined: the devices in quarantine.
    """

    def __init__(
        self,
        rules: StandingRules,
        marks: Iterable[Mark] = (),
        entries: Mapping[str, Entry] | None = None,
    ) -> None:
        """Begin with what the ledger and the file of the quarantine remember.

        Args:
            marks: contributions, oldest first.
            entries: for each device the last word on whether it is in quarantine.
        """
        self._rules = rules
        self.rows: dict[str, Known] = {}
        self.entries: dict[str, Entry] = {}
        self.quarantined: frozenset[str] = frozenset()
        for device, known in (entries or {}).items():
            self._enter(device, known)
        for mark in marks:
            entry = self.entries.get(mark.device)
            # What a device did before it was let out is forgiven.
            if entry is None or entry.quarantined or mark.version > entry.version:
                self._mark(mark)

    def why(self, device: str) -> str | None:
        """Why a device is in quarantine; None if it is not."""
        entry = self.entries.get(device)
        return entry.reason if entry is not None and entry.quarantined else None

    def strangest(self, most: int) -> dict[str, float]:
        """The devices of the highest scores, and these; none whose updates are as others are."""
        scored = sorted(self.rows.items(), key=lambda item: (-item[1].score, item[0]))
        return {d: round(row.score, 2) for d, row in scored[:most] if row.score >= STRANGE}

    def contributed(
        self, version: int, parts: Iterable[Contribution], outliers: frozenset[UpdateId]
    ) -> list[CoordinatorEffect]:
        """A version was made of these updates; the rule left `outliers` out."""
        effects: list[CoordinatorEffect] = []
        for part in parts:
            device = part.id.device
            self._mark(Mark(device, version, part.clip, part.id in outliers))
            effects += self._judge(device, version)
        return effects

    def refused(self, id: UpdateId, reason: Reason, version: int) -> list[CoordinatorEffect]:
        """An offer was refused; one that comes again counts once: a device goes on to the next."""
        row = self.rows.setdefault(id.device, Known())
        last = row.refused
        if reason not in TELLING:
            return []
        if last is not None and last.outbox == id.outbox and id.sequence <= last.sequence:
            return []
        row.refused = id
        row.refusals += 1
        row.score += WEIGHT * (1.0 - row.score)
        return self._judge(id.device, version)

    def take(self, entries: Mapping[str, Entry]) -> list[CoordinatorEffect]:
        """Somebody changed the quarantine by hand."""
        effects: list[CoordinatorEffect] = []
        for device, entry in entries.items():
            if self.entries.get(device) == entry:
                continue
            was = self.why(device) is not None
            self._enter(device, entry)
            if not entry.quarantined:
                self.rows.pop(device, None)
            if entry.quarantined != was:
                effects += _told(device, entry)
        return effects

    def _enter(self, device: str, entry: Entry) -> None:
        self.entries[device] = entry
        self.quarantined -= {device}
        if entry.quarantined:
            self.quarantined |= {device}

    def _mark(self, mark: Mark) -> None:
        row = self.rows.setdefault(mark.device, Known())
        weight = mark_of(mark, self._rules.wild_factor)
        row.contributions += 1
        row.clipped += mark.clip < 1
        row.outliers += weight > 0
        row.score += WEIGHT * (weight - row.score)

    def _judge(self, device: str, version: int) -> list[CoordinatorEffect]:
        row = self.rows[device]
        if self._rules.quarantine != "auto" or self.why(device) is not None:
            return []
        if row.score < self._rules.threshold:
            return []
        reason = (
            f"{row.outliers} of {row.contributions} contributions were outliers, "
            f"{row.refusals} offers were no updates; score {row.score:.2f}"
        )
        entry = Entry(True, "rule", reason, version)
        self._enter(device, entry)
        return [Quarantine(device, entry), *_told(device, entry)]


def mark_of(mark: Mark, wild_factor: float) -> float:
    """How strange a contribution was: 0, 1/2 or 1."""
    if mark.clip * wild_factor < 1:
        return 1.0
    return 0.5 if mark.outlier or mark.clip * OUTSIZE < 1 else 0.0


def _told(device: str, entry: Entry) -> list[CoordinatorEffect]:
    facts = {"device": device, "by": entry.by, "reason": entry.reason, "version": entry.version}
    text = "device in quarantine" if entry.quarantined else "device let out of quarantine"
    return [
        Log(Level.WARNING, text, facts),
        Report("quarantine", {"quarantined": entry.quarantined, **facts}),
    ]
