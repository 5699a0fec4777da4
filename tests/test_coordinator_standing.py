"""What devices are known for, and which of them go into quarantine by the rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from config.aggregation import StandingRules
from config.settings import Aggregation
from coordinator.norms import Norms
from coordinator.robust import multi_krum
from coordinator.standing import Standing
from coordinator.trigger import contribution
from coordinator.vocabulary import Contribution, Entry, Mark, Quarantine, Report
from federation.machine import Log
from federation.messages import Reason
from tests.specimens import accepted, an_id, kinds


def part(device: str, clip: float = 1.0, sequence: int = 0) -> Contribution:
    return Contribution(an_id(device, sequence), 0, 0, clip, 1.0, clip)


def standing(**rules: Any) -> Standing:
    return Standing(StandingRules(**rules))


def contribute(made: Standing, times: int, clip: float = 1.0, device: str = "a") -> list[Any]:
    effects: list[Any] = []
    for version in range(times):
        effects += made.contributed(version, [part(device, clip)], frozenset())
    return effects


def test_a_device_whose_updates_are_wild_each_time_is_in_quarantine_in_the_end() -> None:
    made = standing()
    assert contribute(made, 21, clip=0.05) == []
    effects = contribute(made, 1, clip=0.05)
    assert kinds(effects) == ["Quarantine", "Log", "Report"], "it is durable before it is told"
    assert made.quarantined == {"a"}
    assert "22 of 22 contributions" in str(made.why("a"))
    assert contribute(made, 5, clip=0.05) == [], "it is told once"


@pytest.mark.parametrize("clip", [0.11, 0.4, 0.6, 1.0])
def test_a_device_that_is_clipped_each_time_but_not_wildly_is_never_there(clip: float) -> None:
    made = standing()
    assert contribute(made, 1000, clip) == []
    assert made.rows["a"].outliers == (1000 if clip < 0.5 else 0)
    assert made.rows["a"].clipped == (1000 if clip < 1 else 0)


def test_one_good_update_in_four_keeps_a_device_out() -> None:
    made = standing()
    for version in range(1000):
        clip = 1.0 if version % 4 == 3 else 0.01
        assert made.contributed(version, [part("a", clip)], frozenset()) == []


def test_by_hand_alone_means_that_the_rule_puts_nobody_there() -> None:
    made = standing(quarantine="manual")
    assert contribute(made, 100, clip=0.01) == []
    assert made.rows["a"].score > 0.99


def test_offers_that_are_no_updates_lead_there_too_but_not_by_being_repeated() -> None:
    made = standing()
    for _ in range(100):
        assert made.refused(an_id("a", 0), Reason.NOT_FINITE, 1) == []
    effects: list[Any] = []
    for sequence in range(1, 22):
        effects += made.refused(an_id("a", sequence), Reason.BAD_SHAPE, 1)
    assert [e.device for e in effects if isinstance(e, Quarantine)] == ["a"]


@pytest.mark.parametrize("reason", [Reason.STALE, Reason.UNKNOWN_BASE, Reason.QUARANTINED])
def test_coming_too_late_is_no_fault(reason: Reason) -> None:
    made = standing()
    for sequence in range(100):
        assert made.refused(an_id("a", sequence), reason, 1) == []
    assert made.rows["a"].score == 0


def test_a_restart_remembers_the_marks_and_the_quarantine() -> None:
    marks = [Mark("a", version, 0.05, False) for version in range(21)]
    again = Standing(StandingRules(), marks, {"b": Entry(True, "hand", "stolen", 3)})
    assert (again.why("a"), again.why("b")) == (None, "stolen")
    assert kinds(contribute(again, 1, clip=0.05)) == ["Quarantine", "Log", "Report"]


def test_what_a_device_did_before_it_was_let_out_is_forgiven() -> None:
    marks = [Mark("a", version, 0.05, False) for version in range(30)]
    again = Standing(StandingRules(), marks, {"a": Entry(False, "hand", "mended", 28)})
    assert again.rows["a"].contributions == 1


def test_changes_by_hand_are_told_once_each() -> None:
    made = standing()
    put = {"a": Entry(True, "hand", "stolen", 3, 1.0)}
    effects = made.take(put)
    assert kinds(effects) == ["Log", "Report"]
    assert isinstance(effects[0], Log)
    facts = {"device": "a", "by": "hand", "reason": "stolen", "version": 3}
    assert effects[0].facts == facts
    assert effects[1] == Report("quarantine", {"quarantined": True, **facts})
    assert made.take(put) == []
    assert kinds(made.take({"a": Entry(False, "hand", "", 4, 2.0)})) == ["Log", "Report"]
    assert made.quarantined == set()


def test_the_strangest_are_shown_and_they_alone() -> None:
    made = standing()
    for device, clip in (("wild", 0.01), ("long", 0.4), ("short", 1.0)):
        contribute(made, 50, clip, device)
    assert made.strangest(10) == {"wild": 0.99, "long": 0.5}
    assert made.strangest(1) == {"wild": 0.99}


# Honest devices that are not like the others


def test_no_honest_device_is_in_quarantine_however_unequal_their_data_are() -> None:
    """Norms go with the root of the number of steps, and data are cut a hundred to one."""
    chance = np.random.default_rng(0)
    sizes = {f"device-{n}": float(10 ** chance.uniform(0, 2)) for n in range(20)}
    made, norms, rule = standing(), Norms(), Aggregation()
    for version in range(300):
        parts = []
        for device in chance.choice(sorted(sizes), 5, replace=False):
            norm = sizes[device] ** 0.5 * chance.lognormal(0, 0.3)
            norms.add(device, norm)
            update = accepted(device, version, version, norm=norm)
            parts.append(contribution(rule, update, version, norms.median()))
        assert made.contributed(version, parts, frozenset()) == []
    assert any(row.outliers > 10 for row in made.rows.values()), "some were clipped a lot"


def test_no_honest_device_is_in_quarantine_for_being_left_out_by_multi_krum() -> None:
    """One of ten is always the most unlike the others, and so left out of every version."""
    chance = np.random.default_rng(0)
    means = chance.normal(0, 1, (10, 40)).astype(np.float32) * np.arange(1, 11)[:, None]
    made = standing()
    for version in range(200):
        rows = (means + chance.normal(0, 0.3, means.shape)).astype(np.float32)
        _, kept = multi_krum(rows, 2)
        parts = [part(f"device-{n}", sequence=version) for n in range(10)]
        outliers = frozenset(p.id for p, stays in zip(parts, kept, strict=True) if not stays)
        assert made.contributed(version, parts, outliers) == []
    assert max(row.outliers for row in made.rows.values()) > 190


def test_devices_that_send_a_hundred_times_what_others_send_are_found_out() -> None:
    chance = np.random.default_rng(0)
    made, norms, rule = standing(), Norms(), Aggregation()
    for version in range(200):
        parts = []
        for number in chance.choice(10, 5, replace=False):
            device = f"device-{number}"
            norm = chance.lognormal(0, 0.3) * (100 if number < 2 else 1)
            norms.add(device, norm)
            update = accepted(device, version, version, norm=norm)
            parts.append(contribution(rule, update, version, norms.median()))
        made.contributed(version, parts, frozenset())
    assert made.quarantined == {"device-0", "device-1"}
