"""How one version follows another: accepted updates wait in the buffer until the trigger fires.

OPEN --trigger: Combine--> COMBINING --Combined: announce, evaluate--> OPEN
"""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Any

from config.failures import ExitCode
from config.settings import CoordinatorSettings
from coordinator.trigger import candidates, chosen, contribution, deadline_s
from coordinator.vocabulary import (
    Accepted,
    Announce,
    Clean,
    Combine,
    Combined,
    CoordinatorEffect,
    Evaluate,
    Evaluated,
    Recollection,
    Report,
    VersionInfo,
)
from federation.invitation import is_invited
from federation.machine import Level, Log, Moment, Stop
from federation.messages import Header, encode


class Progression:
    """The current version, and what the next one will be made of."""

    def __init__(self, settings: CoordinatorSettings, memory: Recollection, boot: int) -> None:
        self.current: VersionInfo = memory.current
        self.buffer: list[Accepted] = list(memory.buffer)
        self.announced = False
        self._ledger = memory.ledger
        self._settings = settings
        self._rule = settings.aggregation
        self._combining = False
        self._evaluating: set[int] = set()
        self._boot = boot
        self.test_is_due = not memory.tested and settings.test_set is not None
        self._draw = 0
        self._round_s = inf
        self._first_s = inf

    @property
    def next_base(self) -> int:
        """The version that an update accepted now would at the earliest be added to."""
        return self.current.version + (1 if self._combining else 0)

    @property
    def finished(self) -> bool:
        """Whether all versions that were asked for exist."""
        limit = self._settings.versions
        return limit is not None and self.current.version >= limit

    @property
    def due_s(self) -> float:
        """When the deadline of the round or the buffer passes."""
        if self._combining or not self.announced or self.finished:
            return inf
        return deadline_s(self._rule, self._round_s, self._first_s)

    def header(self) -> Header:
        """The header of the current version."""
        current = self.current
        return Header(
            ledger=self._ledger,
            version=current.version,
            slot=current.version % self._settings.transfer.slots,
            codec=current.codec,
            payload=current.payload,
            layout=tuple(current.layout.to_wire()),
            task=self._settings.task,
            plan=self._settings.training,
            max_staleness=self._rule.max_staleness,
            invited=self._rule.fraction,
            boot=self._boot,
            draw=self._draw,
        )

    def announce(self, at: Moment) -> list[CoordinatorEffect]:
        """Publish the current version; the first time begins the first round."""
        if not self.announced:
            self.announced = True
            self._begin_round(at)
        header = self.header()
        facts = {"version": header.version, "bytes": header.payload.size}
        return [
            Announce(self.current, header.slot, encode(header)),
            Log(Level.INFO, "version published", facts),
        ]

    def accept(self, accepted: Accepted, at: Moment) -> None:
        """An update is in the ledger and waits for its version."""
        self.buffer.append(accepted)
        self._first_s = min(self._first_s, at.now_s)

    def go_on(self, there: Collection[str], linked: bool, at: Moment) -> list[CoordinatorEffect]:
        """Make the next version if it is time.

        Args:
            there: the devices that may be waited for.
        """
        if self.test_is_due and self.announced:
            self.test_is_due = False
            return self._evaluate()
        if self._combining or not self.announced or self.finished:
            return []
        ready = candidates(self.buffer)
        overdue = at.now_s >= self.due_s
        taken = chosen(self._rule, ready, self._cohort(there, ready), overdue)
        if taken:
            version = self.current.version
            self._combining = True
            return [Combine(version, tuple(contribution(self._rule, a, version) for a in taken))]
        return self._draw_again(linked, at) if overdue else []

    def combine_failed(self) -> None:
        """The next version could not be kept: it is made again, of whatever is there then."""
        self._combining = False

    def combined(self, event: Combined, linked: bool, at: Moment) -> list[CoordinatorEffect]:
        """The next version is there: it is the current one now."""
        self._combining = False
        self.current = event.info
        used = {c.id for c in event.contributions}
        self.buffer = [accepted for accepted in self.buffer if accepted.id not in used]
        self._draw = 0
        self._begin_round(at)
        facts = {
            "version": event.info.version,
            "updates": len(event.contributions),
            "devices": [c.id.device for c in event.contributions],
            "staleness": [c.staleness for c in event.contributions],
        }
        effects: list[CoordinatorEffect] = [
            Log(Level.INFO, "version made", facts),
            Report("version", facts),
        ]
        if linked:
            effects += self.announce(at)
        return [*effects, Clean(self.oldest_needed()), *self._evaluate(), *self._end()]

    def oldest_needed(self) -> int:
        """The oldest version to keep: one that an accepted update waits with is not forgotten."""
        kept = self.current.version - self._settings.keep_versions + 1
        return min([kept, *(accepted.base_version for accepted in self.buffer)])

    def evaluated(self, event: Evaluated) -> list[CoordinatorEffect]:
        """A version was tested; older ones that were skipped over are not waited for."""
        self._evaluating = {v for v in self._evaluating if v > event.version}
        facts: dict[str, Any] = {"version": event.version, **event.metrics}
        effects: list[CoordinatorEffect]
        if event.problem:
            facts["problem"] = event.problem
            effects = [Log(Level.WARNING, "version not evaluated", facts)]
        else:
            effects = [Log(Level.INFO, "version evaluated", facts), Report("evaluation", facts)]
        return effects + self._end()

    def _evaluate(self) -> list[CoordinatorEffect]:
        version = self.current.version
        if self._settings.test_set is None:
            return []
        if version % self._settings.evaluate_every and not self.finished:
            return []
        self._evaluating.add(version)
        return [Evaluate(version)]

    def _end(self) -> list[CoordinatorEffect]:
        """Stop when the last version is made and tested."""
        if not self.finished or self._evaluating:
            return []
        return [Stop(ExitCode.OK, f"version {self.current.version} is the last one")]

    def _begin_round(self, at: Moment) -> None:
        self._round_s = at.now_s
        self._first_s = at.now_s if self.buffer else inf

    def _cohort(self, there: Collection[str], ready: tuple[Accepted, ...]) -> int:
        """How many invited devices are there now, or have delivered already."""
        version, fraction = self.current.version, self._rule.fraction
        invited = {d for d in there if is_invited(d, version, self._draw, fraction)}
        return len(invited | {accepted.id.device for accepted in ready})

    def _draw_again(self, linked: bool, at: Moment) -> list[CoordinatorEffect]:
        """A deadline passed with too few updates: wait once more; a round invites anew."""
        self._begin_round(at)
        told = Log(Level.WARNING, "too few updates in time", {"version": self.current.version})
        if self._rule.trigger != "rounds" or not linked:
            return [told]
        self._draw += 1
        return [told, *self.announce(at)]
