"""`flockwise agent status` and `agent doctor`: what a technician on the device wants to know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.failures import Failure
from config.settings import AgentSettings
from device_agent import doctor, status
from device_agent.outbox import Outbox
from device_agent.status import Story
from federation.machine import Level, Log
from federation.status_board import StatusBoard
from tests.processes import a_broker, a_chunk


@pytest.fixture
def state(tmp_path: Path) -> Path:
    folder = tmp_path / "state" / "outbox"
    folder.mkdir(parents=True)
    Outbox(folder).close()
    return tmp_path / "state"


def test_while_it_is_down_the_outbox_is_told(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main(["--state-dir", str(state), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["updates_in_outbox"], told["starts"]) == (False, 0, 1)


def test_while_it_runs_the_outbox_is_read_beside_it(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outbox = Outbox(state / "outbox")
    StatusBoard(state, {}).show(lambda: {"summary": "linked; version 7; training"}, now=True)
    assert status.main(["--state-dir", str(state)]) == 0
    outbox.close()
    told = capsys.readouterr().out
    assert told.startswith("running: linked; version 7; training (as of ")
    assert "starts:" in told


def test_where_there_is_no_agent_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no outbox"):
        status.main(["--state-dir", str(tmp_path)])


def test_the_story_keeps_the_last_verdict_and_the_last_problem() -> None:
    story = Story()
    story.hear([Log(Level.INFO, "update accepted", {"sequence": 3}), object()])
    story.hear([Log(Level.WARNING, "update refused", {"reason": "stale"})])
    story.hear([Log(Level.INFO, "link up")])
    assert story.last["last_verdict"].startswith("update refused reason=stale (")
    assert story.last["last_problem"].startswith("update refused reason=stale (")
    assert story.last["link"].startswith("link up (")


# The doctor


def examined(settings: AgentSettings) -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in (check(settings) for check in doctor.CHECKS)}


def some(tmp_path: Path, **fields: Any) -> AgentSettings:
    return AgentSettings(
        **{
            "device": "one",
            "state_dir": tmp_path / "state",
            "chunk": a_chunk(tmp_path / "one.npz"),
            "threads": 1,
            **fields,
        }
    )


def test_a_device_that_lacks_nothing_is_told_so(tmp_path: Path) -> None:
    with a_broker("auto", tmp_path / "broker") as broker:
        found = examined(some(tmp_path, link={"host": broker.host, "port": broker.port}))
    assert {what: f for what, f in found.items() if f.verdict == "fault"} == {}
    assert "torch" in found["training"].seen
    assert found["rights"].verdict == "ok"


def test_what_is_lacking_is_told_with_what_to_do(tmp_path: Path) -> None:
    settings = some(tmp_path, chunk=tmp_path / "none.npz", link={"port": 9})
    found = examined(settings)
    for what in ("training", "broker", "rights"):
        assert found[what].verdict == "fault"
        assert found[what].advice
    assert doctor.as_line(found["broker"]).startswith("fault    broker         127.0.0.1:9")


def test_a_device_that_may_not_train_now_is_told_why(tmp_path: Path) -> None:
    hindered = some(tmp_path, eligibility={"min_free_disk_mib": 2**30})
    finding = doctor.eligibility(hindered)
    assert finding.verdict == "warning"
    assert finding.seen.startswith("little room on disk")
