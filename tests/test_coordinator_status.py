"""`flockwise coordinator status`: how it is doing, while it runs and while it does not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.failures import Failure
from coordinator import status
from coordinator.ledger import Ledger
from coordinator.vocabulary import Judge
from federation.messages import Reason
from federation.status_board import StatusBoard
from tests.specimens import a_layout, an_id, an_offer


@pytest.fixture
def state(tmp_path: Path) -> Path:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.begin("task", "model", a_layout(2))
    ledger.judge(Judge(an_id("one"), an_offer(), 1.0))
    ledger.judge(Judge(an_id("two"), an_offer(), refusal=Reason.STALE, detail="missed 9"))
    ledger.close()
    return tmp_path


def test_while_it_is_down_the_record_is_told(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status.main(["--state-dir", str(state), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["running"], told["accepted"], told["refused"]) == (False, 1, 1)
    assert told["newest_version"]["version"] == 0
    assert told["refusals"][0]["detail"] == "missed 9"


def test_while_it_runs_the_summary_comes_first(
    state: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = {"summary": "linked; version 3; 2 devices online", "devices_online": ["one", "two"]}
    StatusBoard(state, {}).show(lambda: facts, now=True)
    assert status.main(["--state-dir", str(state)]) == 0
    first, *rest = capsys.readouterr().out.splitlines()
    assert first.startswith("running: linked; version 3; 2 devices online (as of ")
    assert any(line.split() == ["devices", "online:", "one,", "two"] for line in rest)


def test_where_there_is_no_coordinator_that_is_said(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="there is no ledger"):
        status.main(["--state-dir", str(tmp_path)])
