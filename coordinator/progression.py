"""How one version follows another: accepted updates wait in the buffer until the trigger fires.

OPEN --trigger: Combine--> COMBINING --Combined: announce, evaluate--> OPEN
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Set
from math import inf
from typing import Any

from config.failures import ExitCode
from config.settings import CoordinatorSettings
from coordinator.cohort import Cohort
from coordinator.cooldown import LONGEST_WAIT_S, Cooldown
from coordinator.header import header_of
from coordinator.norms import Norms
from coordinator.standing import Standing
from coordinator.trigger import candidates, chosen, contribution, deadline_s
from coordinator.vocabulary import (
    Accepted,
    Announce,
    Clean,
    Combine,
    Combined,
    CoordinatorEffect,
    Entry,
    Evaluate,
    Evaluated,
    Recollection,
    Report,
    SetAside,
    UpdateId,
    VersionInfo,
)
from federation.machine import Level, Log, Moment, Stop
from federation.messages import Header, Reason, encode
from federation.sealing import key_id

# Updates of one device that wait in the buffer.
MOST_WAITING = 4


class Progression:
    """The current version, and what the next one will be made of."""

    def __init__(self, settings: CoordinatorSettings, memory: Recollection, boot: int) -> None:
        self.current: VersionInfo = memory.current
        self.buffer: list[Accepted] = list(memory.buffer)
        self.announced = False
        self.seals = memory.seals
        self._memory = memory
        self._settings = settings
        self._rule = settings.aggregation
        self._combining = False
        self._in_making: frozenset[UpdateId] = frozenset()
        self._evaluating: set[int] = set()
        self._boot = boot
        self.test_is_due = not memory.tested and settings.test_set is not None
        self._draw = 0
        self._round_s = inf
        self._first_s = inf
        self._norms = Norms(memory.norms)
        self._cooldown = Cooldown(self._rule, memory.contributed)
        self.standing = Standing(settings.standing, memory.marks, memory.entries)
        self._holders = set(memory.holders) if settings.training.memory else None
        self._lets_in_s = inf  # when updates that wait for their device's turn are let in
        self._cohort = Cohort(self._rule)
        self._counted: frozenset[str] | None = None
        self._waiting = Counter(accepted.id.device for accepted in self.buffer)
        self._is_new = True  # something has changed since it was looked whether it is time

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
        """When the deadline of the round or the buffer passes, or the cooldown gives way."""
        if self._combining or not self.announced or self.finished:
            return inf
        return min(self._deadline_s, self._lets_in_s)

    @property
    def _deadline_s(self) -> float:
        return deadline_s(self._rule, self._round_s, self._first_s)

    def header(self) -> Header:
        """The header of the current version."""
        return header_of(self._settings, self._memory, self.current, self._boot, self._draw)

    def announce(self, at: Moment) -> list[CoordinatorEffect]:
        """Publish the current version; the first time begins the first round."""
        told: list[CoordinatorEffect] = []
        if not self.announced:
            self.announced = True
            self._begin_round(at)
            self._cooldown.begin(at)
            told = self.set_aside()
        header = self.header()
        facts = {"version": header.version, "bytes": header.payload.size}
        return [
            *told,
            Announce(self.current, header.slot, encode(header)),
            Log(Level.INFO, "version published", facts),
        ]

    def accept(self, accepted: Accepted, at: Moment) -> None:
        """An update is in the ledger and waits for its version."""
        self.buffer.append(accepted)
        self._waiting[accepted.id.device] += 1
        self._is_new = True
        self._norms.add(accepted.id.device, accepted.norm)
        self._first_s = min(self._first_s, at.now_s)

    @property
    def median_norm(self) -> float | None:
        """How long updates are lately; None if too few are known."""
        return self._norms.median(without=self.standing.quarantined)

    def set_aside(self) -> list[CoordinatorEffect]:
        """What those in quarantine have in the buffer enters no version any more."""
        ids = [accepted.id for accepted in self.buffer if accepted.id not in self._in_making]
        dropped = tuple(id for id in ids if id.device in self.standing.quarantined)
        if not dropped:
            return []
        self._keep_but(set(dropped))
        return [SetAside(dropped)]

    def wait_s(self, device: str, at: Moment) -> float | None:
        """How long a device is to keep its update, as others have their turn; None if not."""
        waiting = self._waiting[device]
        if waiting >= MOST_WAITING:
            return LONGEST_WAIT_S  # each enters a version of its own: more would only pile up
        return self._cooldown.wait_s(device, waiting > 0, self.next_base + 1, at)

    def go_on(
        self, there: Set[str], linked: bool, at: Moment, news: Collection[str] | None = None
    ) -> list[CoordinatorEffect]:
        """Make the next version if it is time.

        Args:
            there: the devices that may be waited for.
            news: those that came or went since the last call; None if that is not known.
        """
        self._look(there, news)
        if self.test_is_due and self.announced:
            self.test_is_due = False
            return self._evaluate()
        if self._combining or not self.announced or self.finished:
            return []
        overdue = at.now_s >= self._deadline_s
        if not (overdue or self._is_new or at.now_s >= self._lets_in_s):
            return []
        self._is_new, self._lets_in_s = False, inf
        at_most_barred = len(there) if self._cooldown.versions else len(self.standing.quarantined)
        if not overdue and len(self.buffer) < self._cohort.fewest(at_most_barred):
            return []
        version = self.current.version
        barred = self._barred(there, at)
        ready = candidates(self.buffer, barred)
        taken = chosen(self._rule, ready, self._cohort.expected(ready, barred), overdue)
        if taken:
            self._combining = True
            self._in_making = frozenset(accepted.id for accepted in taken)
            rule, longest, known = self._rule, self.median_norm, self._is_known
            parts = (contribution(rule, a, version, longest, known=known(a.id)) for a in taken)
            return [Combine(version, tuple(parts))]
        return self._draw_again(linked, at) if overdue else []

    def refused(self, id: UpdateId, reason: Reason) -> list[CoordinatorEffect]:
        """An offer was refused; that may have been once too often."""
        effects = self.standing.refused(id, reason, self.current.version)
        return effects + (self.set_aside() if effects else [])

    def quarantine(self, entries: Mapping[str, Entry]) -> list[CoordinatorEffect]:
        """Somebody changed by hand who is in quarantine."""
        self._is_new = True
        return self.standing.take(entries) + self.set_aside()

    def combine_failed(self) -> None:
        """The next version could not be kept: it is made again, of whatever is there then."""
        self._combining, self._is_new = False, True
        self._in_making = frozenset()

    def combined(self, event: Combined, linked: bool, at: Moment) -> list[CoordinatorEffect]:
        """The next version is there: it is the current one now."""
        self._combining = False
        self._in_making = frozenset()
        self.current = event.info
        if event.info.seal:
            self.seals |= {key_id(event.info.seal)}
        used = {c.id for c in event.contributions}
        version = event.info.version
        self._cooldown.made(version, [id.device for id in used], at)
        if self._holders is not None:
            self._holders |= {(id.device, id.outbox) for id in used}
        self._keep_but(used)
        self._draw = 0
        self._begin_round(at)
        facts = {
            "version": event.info.version,
            "updates": len(event.contributions),
            "devices": [c.id.device for c in event.contributions],
            "staleness": [c.staleness for c in event.contributions],
            "clipped": sum(c.clip < 1 for c in event.contributions),
            "left_out": len(event.outliers),
        }
        effects: list[CoordinatorEffect] = [
            Log(Level.INFO, "version made", facts),
            Report("version", facts),
            *self.standing.contributed(version, event.contributions, event.outliers),
            *self.set_aside(),
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
            row = Report("evaluation", {**facts, **event.findings})
            effects = [Log(Level.INFO, "version evaluated", facts), row]
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

    def _is_known(self, id: UpdateId) -> bool | None:
        return None if self._holders is None else (id.device, id.outbox) in self._holders

    def _begin_round(self, at: Moment) -> None:
        self._is_new = True
        self._round_s = at.now_s
        self._first_s = at.now_s if self.buffer else inf

    def _barred(self, there: Collection[str], at: Moment) -> frozenset[str]:
        """The devices that cool down, of those whose update is there or that are waited for."""
        waiting = {accepted.id.device for accepted in self.buffer}
        if self._rule.trigger == "rounds" and self._cooldown.versions:
            waiting.update(there)
        barred = self._cooldown.barred(waiting, self.current.version + 1, at)
        self._lets_in_s = self._cooldown.gives_way_s if barred else inf
        return barred | self.standing.quarantined

    def _look(self, there: Set[str], news: Collection[str] | None) -> None:
        """Who is there, and who of them is invited; no more is done than there is news."""
        quarantined = self.standing.quarantined
        if news is None or news or quarantined is not self._counted:
            self._is_new, self._counted = True, quarantined
            self._cooldown.count(len(there) - sum(device in there for device in quarantined))
        self._cohort.look(there, news, self.current.version, self._draw)

    def _keep_but(self, gone: Set[UpdateId]) -> None:
        """These updates wait no more."""
        self.buffer = [accepted for accepted in self.buffer if accepted.id not in gone]
        self._waiting = Counter(accepted.id.device for accepted in self.buffer)

    def _draw_again(self, linked: bool, at: Moment) -> list[CoordinatorEffect]:
        """A deadline passed with too few updates: wait once more; a round invites anew."""
        self._begin_round(at)
        told = Log(Level.WARNING, "too few updates in time", {"version": self.current.version})
        if self._rule.trigger != "rounds" or not linked:
            return [told]
        self._draw += 1
        return [told, *self.announce(at)]
