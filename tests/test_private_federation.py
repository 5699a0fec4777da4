"""A federation with one device that adds noise: what it tells, when it stops, what is on record."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.sections import Privacy
from config.settings import AgentSettings
from coordinator import inspection
from coordinator.ledger import Ledger
from coordinator.vocabulary import Judge
from device_agent import doctor, status
from device_agent.budget import SPENT
from device_agent.outbox import Outbox
from device_agent.vocabulary import TrainingEnded
from federation.messages import Reason
from federation.status_board import read_status
from federation.status_text import as_lines
from learning.accountant import Account
from tests.processes import a_broker, a_chunk, a_coordinator, an_agent, command, wait_until
from tests.specimens import OUTBOX, a_header, a_layout, an_id, an_offer

RULE = {"noise": 8.0, "clip": 0.001, "delta": 1e-6, "max_participations": 2}


@dataclass
class Told:
    """What a run left: the logs of the agent, and what both roles showed while they ran."""

    spent: dict[str, Any]
    second: list[dict[str, Any]]
    agent: dict[str, Any]
    coordinator: dict[str, Any]
    inspected: dict[str, Any]
    reports: list[dict[str, Any]]


def is_spent(state_dir: Path) -> bool:
    """Whether a role shows that the greater budget is spent too."""
    shown = str(read_status(state_dir))
    return SPENT in shown and "at most 3 updates" in shown


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """A device makes two updates, which is all it may; then it may make one more, and makes it."""
    tmp = tmp_path_factory.mktemp("private")
    state, device = tmp / "coordinator", tmp / "device"
    chunk = a_chunk(tmp / "one.npz")
    with (
        a_broker("auto", tmp / "broker") as broker,
        a_coordinator(broker, state, aggregation={"buffer_size": 1}) as coordinator,
    ):
        with an_agent(broker, device, chunk, "one", privacy=RULE) as agent:
            spent = agent.wait_for(SPENT)
            agent.wait_for("update accepted", 2)
            coordinator.wait_for("device paused")
            agent.stop()
            assert len(agent.told("update accepted")) == 2
        more = {**RULE, "max_participations": 3}
        with an_agent(broker, device, chunk, "one", privacy=more) as again:
            again.wait_for("update accepted")
            again.wait_for(SPENT)
            wait_until(lambda: is_spent(device))
            shown = command("agent", "status", "--state-dir", str(device), "--json")
            wait_until(lambda: is_spent(state))
            seen = command("coordinator", "status", "--state-dir", str(state), "--json")
            inspected = inspection.inspect(state, 10)
            again.stop()
        coordinator.stop()
    reports = [json.loads(line) for line in (state / "reports.jsonl").read_text().splitlines()]
    return Told(
        spent, again.lines, json.loads(shown.stdout), json.loads(seen.stdout), inspected, reports
    )


def test_a_device_stops_when_its_budget_is_spent_and_says_what_was_told(told: Told) -> None:
    assert told.spent["level"] == "warning"
    assert told.spent["updates"] == 2
    expected = Account(Privacy(**RULE), 2, 2 / 64).epsilon
    assert told.spent["epsilon"] == pytest.approx(expected)


def test_it_goes_on_with_a_greater_budget_and_counts_on(told: Told) -> None:
    (spent,) = [line for line in told.second if line["text"] == SPENT]
    assert spent["updates"] == 3


def test_its_status_tells_why_it_does_not_train_and_what_was_told(told: Told) -> None:
    assert told.agent["may_train"] == SPENT
    assert told.agent["updates_with_noise"] == 3
    expected = Account(Privacy(**RULE), 3, 3 / 64).epsilon
    assert told.agent["privacy_epsilon"] == pytest.approx(expected)
    assert (
        "delta 1e-06 (unit: the whole chunk; zero-out; clip 0.001, noise 8" in told.agent["privacy"]
    )


def test_the_coordinator_shows_what_the_device_promises(told: Told) -> None:
    assert told.coordinator["devices_paused"] == {"one": SPENT}
    assert told.coordinator["devices_private"] == {"one": told.agent["privacy"]}


def test_inspection_shows_the_account_of_the_device(told: Told) -> None:
    (row,) = told.inspected["privacy"]
    assert row.pop("outbox")
    assert row == {
        "device": "one",
        "epsilon": pytest.approx(told.agent["privacy_epsilon"]),
        "epsilon_at_most": pytest.approx(told.agent["privacy_epsilon"]),
        "delta": 1e-6,
        "clip": 0.001,
        "noise": 8,
        "participations": 3,
        "max_participations": 3,
        "unprotected": 0,
    }
    text = inspection.as_text(told.inspected)
    assert (
        "privacy, as devices tell (unit: the whole chunk of a device; adjacency: zero-out)" in text
    )


def test_nothing_else_about_the_data_is_on_record(told: Told) -> None:
    rows = [row for row in told.reports if row["kind"] == "update"]
    assert len(rows) == 3
    for row in rows:
        assert all(name.startswith("privacy_") for name in row["metrics"])
        assert (row["examples"], row["steps"], row["train_s"]) == (1, 0, 0.0)
    epsilons = [row["metrics"]["privacy_epsilon"] for row in rows]
    assert epsilons == sorted(epsilons)


# The commands alone


def some(folder: Path, **privacy: Any) -> AgentSettings:
    (folder / "state" / "outbox").mkdir(parents=True, exist_ok=True)
    return AgentSettings(
        device="one", chunk=folder / "one.npz", state_dir=folder / "state", privacy=privacy
    )


def made(folder: Path, noised: tuple[float, float] | None) -> None:
    """An update in the outbox of the device."""
    outbox = Outbox(folder / "state" / "outbox")
    outbox.next_paths()[0].write_bytes(bytes(8))
    outbox.commit(a_header(), TrainingEnded(0, 1, 0, 0.0, {}, noised), 1024)
    outbox.close()


def test_the_doctor_says_that_there_is_no_noise(tmp_path: Path) -> None:
    found = doctor.privacy(some(tmp_path))
    assert (found.verdict, found.seen) == ("ok", "off: updates leave without noise")


def test_the_doctor_tells_what_a_good_account_promises(tmp_path: Path) -> None:
    found = doctor.privacy(some(tmp_path, noise=20.0))
    assert found.verdict == "ok"
    assert found.seen.startswith("epsilon at most 2")


def test_the_doctor_warns_of_a_promise_that_means_little(tmp_path: Path) -> None:
    found = doctor.privacy(some(tmp_path, noise=1.0))
    assert found.verdict == "warning"
    assert "raise privacy.noise" in found.advice


def test_the_doctor_warns_of_a_budget_that_is_spent(tmp_path: Path) -> None:
    settings = some(tmp_path, noise=8.0, max_participations=1)
    made(tmp_path, (1.0, 8.0))
    found = doctor.privacy(settings)
    assert found.verdict == "warning"
    assert found.seen.startswith("privacy budget spent: 1 updates, epsilon 0.4")


def test_the_doctor_tells_of_updates_from_before_there_was_noise(tmp_path: Path) -> None:
    settings = some(tmp_path, noise=20.0)
    made(tmp_path, None)
    assert "1 earlier updates had no noise" in doctor.privacy(settings).seen


def test_while_it_is_down_the_updates_with_noise_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = some(tmp_path)
    made(tmp_path, (1.0, 8.0))
    made(tmp_path, None)
    assert status.main(["--state-dir", str(settings.state_dir), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["updates_made"], shown["updates_with_noise"]) == (2, 1)


def test_inspection_keeps_the_account_of_an_outbox_that_was_wiped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin("task", "model", a_layout(2))
    for outbox, count in ((OUTBOX, 1), (OUTBOX, 2), (b"outbox-2", 1)):
        figures = Account(Privacy(noise=4.0), count, count / 16).figures()
        offer = an_offer(outbox=outbox, sequence=count - 1, metrics=figures)
        # What was refused has left the device all the same.
        refusal = Reason.STALE if count == 2 else None
        ledger.judge(Judge(an_id("one", count - 1, outbox), offer, 1.0, refusal))
    ledger.judge(Judge(an_id("two"), an_offer(), 1.0))
    ledger.close()
    rows = inspection.inspect(tmp_path, 10)["privacy"]
    assert [(row["device"], row["participations"]) for row in rows] == [("one", 2), ("one", 1)]
    assert "privacy" in inspection.as_text(inspection.inspect(tmp_path, 10))


def test_what_devices_say_moves_no_cursor(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin("task", "model", a_layout(2))
    detail = "\x1b[2Jcodec\nforged"
    ledger.judge(Judge(an_id("one"), an_offer(), refusal=Reason.BAD_SHAPE, detail=detail))
    ledger.close()
    text = inspection.as_text(inspection.inspect(tmp_path, 10))
    assert "?[2Jcodec?forged" in text
    assert as_lines({"role": "x", "devices_private": {"one": detail}}).count("\n") == 2
