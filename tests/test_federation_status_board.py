"""What a running role shows: written when it has changed, and not too often."""

from __future__ import annotations

import json
import os
from math import inf
from pathlib import Path

import pytest

from federation import status_board
from federation.status_board import STATUS_FILE, StatusBoard, read_status


def shown(board: StatusBoard, **facts: int) -> None:
    board.touch()
    board.show(lambda: facts, now=True)


def test_what_is_shown_can_be_read_with_whether_the_role_runs(tmp_path: Path) -> None:
    shown(StatusBoard(tmp_path, {}), version=3)
    told = read_status(tmp_path)
    assert told is not None
    assert (told["version"], told["running"], told["pid"]) == (3, True, os.getpid())


def test_a_role_that_ended_is_not_running(tmp_path: Path) -> None:
    shown(StatusBoard(tmp_path, {}), version=3)
    path = tmp_path / STATUS_FILE
    path.write_text(json.dumps({**json.loads(path.read_text()), "pid": 2**22 + 1}))
    told = read_status(tmp_path)
    assert told is not None
    assert told["running"] is False


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"pid": "x"}'])
def test_what_is_no_status_tells_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / STATUS_FILE).write_text(content)
    assert read_status(tmp_path) is None


def test_where_nothing_was_shown_there_is_nothing_to_read(tmp_path: Path) -> None:
    assert read_status(tmp_path) is None


def test_under_a_service_manager_it_lies_in_memory_and_the_state_links_to_it(
    tmp_path: Path,
) -> None:
    state, runtime = tmp_path / "state", tmp_path / "run"
    state.mkdir()
    runtime.mkdir()
    (state / STATUS_FILE).write_text("of an earlier start by hand")
    for version in (1, 2):
        shown(StatusBoard(state, {"RUNTIME_DIRECTORY": f"{runtime}:/other"}), version=version)
    assert (state / STATUS_FILE).readlink() == runtime / STATUS_FILE
    told = read_status(state)
    assert told is not None
    assert told["version"] == 2


def test_a_change_is_shown_in_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = StatusBoard(tmp_path, {})
    now_s = 100.0
    monkeypatch.setattr(status_board.time, "monotonic", lambda: now_s)
    shown(board, version=1)
    assert board.due_s == inf
    board.touch()
    assert board.due_s == 100 + status_board.ON_DISK_EVERY_S
    board.show(lambda: {"version": 2})
    assert json.loads((tmp_path / STATUS_FILE).read_text())["version"] == 1
    now_s = board.due_s
    board.show(lambda: {"version": 2})
    assert json.loads((tmp_path / STATUS_FILE).read_text())["version"] == 2


def test_what_has_not_changed_but_for_counters_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_board, "ON_DISK_EVERY_S", 0.0)
    board = StatusBoard(tmp_path, {})
    shown(board, version=1, sent_bytes=1)
    (tmp_path / STATUS_FILE).unlink()
    board.touch()
    board.show(lambda: {"version": 1, "sent_bytes": 2})
    assert not (tmp_path / STATUS_FILE).exists()
    board.touch()
    board.show(lambda: {"version": 2, "sent_bytes": 2})
    assert (tmp_path / STATUS_FILE).exists()


def test_a_place_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    shown(StatusBoard(tmp_path / "missing", {}), version=1)
