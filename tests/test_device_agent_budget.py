"""A device with a privacy budget makes as many updates as that allows, with noise, and no more."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from config.sections import Privacy
from device_agent.budget import SPENT, Budget, account_of
from device_agent.outbox import Outbox
from device_agent.past import Past, past_of
from device_agent.vocabulary import Prepared, TrainingEnded, TrainingFailed
from device_agent.work import Phase
from federation.machine import Linked, Log, Unlinked
from federation.messages import DevicePresence, Offer, Receipt, Verdict
from learning.accountant import Account
from tests.specimens import OUTBOX, TOPICS, a_header, told
from tests.test_device_agent_core import DOWN, HERE, MINE, PAYLOAD, UP, Bench

RULE = Privacy(noise=4.0, clip=2.0, max_participations=2)
NOISED = TrainingEnded(7, 1, 0, 0.0, {}, noised=(2.0, 4.0))
BARE = TrainingEnded(7, 10, 5, 1.5, {"loss": 0.5})


def a_bench(made: int = 0, **fields: Any) -> Bench:
    account = Account(RULE, made, made / 16)
    return Bench(outbox_limit=5, budget=Budget(account), **fields).begin()


def announced(bench: Bench, version: int) -> list[Any]:
    return bench.hear(TOPICS.model, a_header(PAYLOAD, version=version))


# The core


def test_a_device_makes_no_more_updates_than_its_budget_allows() -> None:
    bench = a_bench()
    bench.train(0)
    bench.train(1)
    assert bench.core.budget.paused == SPENT
    assert announced(bench, 2)[-1].text == "version announced"
    assert bench.core.work.phase is Phase.WAITING


def test_the_last_update_is_told_with_a_warning_and_a_hint() -> None:
    bench = a_bench(made=1)
    (line,) = [e for e in bench.train(0) if isinstance(e, Log) and e.text == SPENT]
    assert line.facts["updates"] == 2
    assert line.facts["epsilon"] == pytest.approx(Account(RULE, 2, 2 / 16).epsilon)
    assert "privacy.max_participations" in line.facts["hint"]


def test_a_device_whose_budget_is_spent_says_so_in_its_presence() -> None:
    bench = a_bench(made=1)
    births = [b for b in told(bench.train(0), HERE) if isinstance(b, DevicePresence)]
    assert [birth.paused for birth in births] == [SPENT]


def test_what_waits_is_delivered_though_the_budget_is_spent() -> None:
    bench = a_bench(made=1)
    offers = [m for m in told(bench.train(0), UP) if isinstance(m, Offer)]
    assert [offer.sequence for offer in offers] == [0]
    receipt = Receipt(outbox=OUTBOX, sequence=0, verdict=Verdict.ACCEPTED)
    bench.hear(DOWN, receipt)
    assert len(bench.core.delivery) == 0
    assert announced(bench, 1)[-1].text == "version announced"


def test_a_device_that_begins_with_a_spent_budget_fetches_nothing() -> None:
    bench = a_bench(made=2)
    announced(bench, 0)
    assert bench.core.work.phase is Phase.WAITING


def test_being_alone_makes_no_update_beyond_the_budget() -> None:
    bench = a_bench(made=1, alone_after_s=10.0)
    bench.train(0)
    bench(Unlinked("gone"))
    bench.now_s += 1000
    bench.wait()
    assert bench.core.solitude.is_long
    assert bench.core.work.phase is Phase.WAITING


def test_a_training_that_fails_takes_nothing_from_the_budget() -> None:
    bench = a_bench(made=1)
    announced(bench, 0)
    bench(Prepared(a_header(PAYLOAD, version=0), frozenset({0, 1})))
    bench(TrainingFailed(0, "diverged"))
    assert bench.core.budget.paused == ""
    bench.now_s += 100
    bench(Linked(MINE + 2))
    assert bench.core.work.phase is Phase.FETCHING


def test_without_noise_nothing_is_counted_or_told() -> None:
    budget = Budget(account_of(Privacy(), Past(5, 5 / 16, 3)))
    assert budget.made() == []
    assert (budget.account, budget.paused) == (None, "")
    assert budget.entered(BARE) is BARE


# What leaves


def test_an_update_takes_the_account_that_then_holds_with_it() -> None:
    entered = Budget(Account(RULE, 1, 1 / 16, unprotected=3)).entered(NOISED)
    assert entered.metrics["privacy_participations"] == 2
    assert entered.metrics["privacy_max_participations"] == 2
    assert entered.metrics["privacy_unprotected"] == 3
    assert entered.metrics["privacy_epsilon"] == pytest.approx(Account(RULE, 2, 2 / 16).epsilon)


@pytest.mark.parametrize("noised", [None, (2.0, 3.0), (1.0, 4.0)])
def test_what_has_not_the_noise_that_was_asked_for_does_not_leave(noised: Any) -> None:
    outcome = TrainingEnded(7, 1, 0, 0.0, {}, noised=noised)
    with pytest.raises(ValueError, match="not made with the noise"):
        Budget(Account(RULE)).entered(outcome)


# The record


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def commit(outbox: Outbox, outcome: TrainingEnded) -> Offer:
    payload, residual = outbox.next_paths()
    payload.write_bytes(PAYLOAD)
    residual.write_bytes(b"rest")
    return outbox.commit(a_header(version=7), outcome, 1024)


def test_an_update_is_counted_when_it_is_committed_and_for_ever(folder: Path) -> None:
    outbox = Outbox(folder)
    assert outbox.past() == Past(0, 0.0, 0)
    commit(outbox, BARE)
    for _ in range(3):
        outbox.forget(commit(outbox, NOISED).sequence)
    assert outbox.past() == Past(3, 3 / 16, 1)
    assert past_of(folder) == outbox.past()
    outbox.close()
    again = Outbox(folder)
    assert again.past() == Past(3, 3 / 16, 1)
    again.close()


def test_what_was_never_committed_is_not_counted(folder: Path) -> None:
    outbox = Outbox(folder)
    for path in outbox.next_paths():
        path.write_bytes(PAYLOAD)
    outbox.close()
    again = Outbox(folder)  # as after a crash between write and commit
    assert again.past() == Past(0, 0.0, 0)
    again.next_paths()
    commit(again, NOISED)
    assert again.past().noised == 1
    again.close()


def test_what_was_rounded_away_without_noise_goes_into_no_update_with_noise(folder: Path) -> None:
    outbox = Outbox(folder)
    commit(outbox, BARE)
    assert outbox.residual() is not None
    assert outbox.residual(noised=True) is None
    commit(outbox, NOISED)
    assert outbox.residual(noised=True) == outbox.residual() == folder / "1.residual"
    outbox.close()


def test_updates_without_noise_are_dropped_where_noise_is_asked_for(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(folder)
    for outcome in (BARE, NOISED, BARE):
        commit(outbox, outcome)
    outbox.drop_bare()
    assert [offer.sequence for offer in outbox.offers()] == [1]
    assert "made without noise" in caplog.text
    assert outbox.past() == Past(1, 1 / 16, 2), "they may have been sent in part"
    outbox.close()


def test_an_outbox_of_before_there_was_noise_is_taken_up(folder: Path) -> None:
    outbox = Outbox(folder)
    commit(outbox, BARE)
    outbox._db.execute("DROP TABLE noised")
    assert past_of(folder) == Past(0, 0.0, 1)
    outbox.close()
    again = Outbox(folder)
    commit(again, NOISED)
    assert again.past() == Past(1, 1 / 16, 1)
    again.close()


def test_where_there_is_no_outbox_nothing_was_told(folder: Path) -> None:
    assert past_of(folder / "none") == Past(0, 0.0, 0)
