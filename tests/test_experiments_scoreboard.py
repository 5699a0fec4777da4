"""The scoreboard follows what processes log, and nothing else moves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from experiments.following import KEPT_NOTICES, follow
from experiments.scoreboard import (
    COORDINATOR,
    DeviceRow,
    Ended,
    Line,
    Phase,
    Run,
    Scoreboard,
    opening,
)

START_S = 1000.0


def a_run(**changes: Any) -> Run:
    values: dict[str, Any] = {
        "started_s": START_S,
        "strategy": "fedbuff",
        "model": "tutorial-cnn",
        "examples": {"a": 90, "b": 90},
        "test_examples": 50,
        "source": "generated images (seed 0)",
        "generated": True,
        "versions": 4,
        "broker": "embedded",
        "directory": Path("/run"),
        **changes,
    }
    return Run(**values)


def line(source: str, text: str, at_s: float = 0.0, level: str = "info", **facts: Any) -> Line:
    return Line(source, START_S + at_s, level, text, facts)


def after(*events: Line | Ended, board: Scoreboard | None = None) -> Scoreboard:
    now = board or opening(a_run())
    for event in events:
        now = follow(now, event)
    return now


def device(*events: Line | Ended) -> DeviceRow:
    return after(*events).devices["a"]


WORKING = (
    line("a", "link up"),
    line("a", "version announced", version=3),
    line("a", "version fetched", version=3, bytes=10),
)


def test_a_device_starts_and_waits_once_it_is_linked() -> None:
    assert device().phase is Phase.STARTING
    row = device(line("a", "link up"))
    assert (row.phase, row.linked) == (Phase.WAITING, True)


def test_an_idle_device_fetches_what_is_announced() -> None:
    row = device(*WORKING[:2])
    assert (row.phase, row.version) == (Phase.FETCHING, 3)


def test_a_device_that_is_not_invited_waits() -> None:
    assert device(*WORKING[:2], line("a", "not invited", version=3)).phase is Phase.WAITING


def test_progress_moves_phase_and_bar() -> None:
    told = line("a", "progress", level="debug", version=3, phase="training", done=0.25, loss=1.5)
    row = device(*WORKING, told)
    assert (row.phase, row.version, row.done, row.loss) == (Phase.TRAINING, 3, 0.25, 1.5)


def test_a_busy_device_keeps_at_its_version_when_a_newer_one_is_announced() -> None:
    row = device(*WORKING, line("a", "version announced", version=4))
    assert (row.phase, row.version, row.newest) == (Phase.LOADING, 3, 4)


def test_an_update_is_on_its_way_until_it_is_judged() -> None:
    made = line("a", "update in outbox", version=3, sequence=0, bytes=9, held_out_accuracy=0.5)
    row = device(*WORKING, made)
    assert (row.phase, row.waiting_updates, row.held_out_accuracy) == (Phase.DELIVERING, 1, 0.5)
    row = device(*WORKING, made, line("a", "update accepted", sequence=0, base_version=3))
    assert (row.phase, row.waiting_updates) == (Phase.WAITING, 0)


def test_a_device_goes_on_with_a_newer_version_while_its_update_is_on_its_way() -> None:
    newer = line("a", "version announced", version=5)
    row = device(*WORKING, newer, line("a", "update in outbox", version=3))
    assert (row.phase, row.version) == (Phase.FETCHING, 5)


def test_accepted_updates_are_those_that_the_coordinator_tells_of() -> None:
    board = after(
        line(COORDINATOR, "update accepted", device="a", sequence=0, base_version=0),
        line(COORDINATOR, "update accepted", device="a", sequence=1, base_version=1),
        line(COORDINATOR, "update refused", device="b", sequence=0, reason="stale"),
    )
    assert (board.devices["a"].accepted, board.devices["a"].refused) == (2, 0)
    assert (board.devices["b"].accepted, board.devices["b"].refused) == (0, 1)


def test_a_version_has_what_it_is_made_of_and_then_its_accuracy() -> None:
    board = after(
        line(COORDINATOR, "version published", 1, version=0, bytes=248_024),
        line(COORDINATOR, "version made", 5, version=1, devices=["b", "a"], staleness=[0, 1]),
        line(COORDINATOR, "version published", 5, version=1, bytes=248_024),
        line(COORDINATOR, "version evaluated", 7.5, version=1, accuracy=0.25, loss=2.0),
    )
    first, second = board.versions
    assert (first.version, first.made_s, first.devices, first.accuracy) == (0, 1, (), None)
    assert (second.made_s, second.devices, second.staleness) == (5, ("b", "a"), (0, 1))
    assert (second.tested_s, second.accuracy, second.loss) == (7.5, 0.25, 2.0)
    assert (board.newest, board.tested, board.model_bytes) == (second, (second,), 248_024)


def test_traffic_is_what_each_process_told_last() -> None:
    board = after(
        line("a", "traffic", level="debug", sent_bytes=1, received_bytes=2),
        line("a", "traffic", level="debug", sent_bytes=10, received_bytes=20),
        line(COORDINATOR, "traffic", level="debug", sent_bytes=30, received_bytes=40),
    )
    assert (board.devices["a"].sent_bytes, board.devices["a"].received_bytes) == (10, 20)
    assert (board.sent_bytes, board.received_bytes) == (30, 40)


def test_a_device_that_ended_says_how() -> None:
    row = device(*WORKING, Ended("a", START_S + 9, -9, "was ended by SIGKILL"))
    assert (row.phase, row.ended, row.linked) == (Phase.ENDED, "was ended by SIGKILL", False)


def test_warnings_become_notices_with_their_facts() -> None:
    board = after(
        line("a", "link down", 3, "warning", role="agent a", reason="broker is gone"),
        line("a", "link up", 4),
    )
    assert [n.text for n in board.notices] == ["link down reason=broker is gone"]


def test_the_least_level_of_notices_can_be_chosen() -> None:
    board = after(line("a", "link up"), board=opening(a_run(least_level="info")))
    assert [n.text for n in board.notices] == ["link up"]


def test_only_the_latest_notices_are_kept_but_all_are_counted() -> None:
    board = after(*[line("a", f"odd {n}", level="error") for n in range(KEPT_NOTICES + 5)])
    assert (len(board.notices), board.noticed) == (KEPT_NOTICES, KEPT_NOTICES + 5)
    assert board.notices[-1].text == f"odd {KEPT_NOTICES + 4}"


@pytest.mark.parametrize(
    "odd",
    [
        line("a", "nobody knows this"),
        line("a", "progress", version=3, phase="dreaming", done=0.5),
        line("a", "progress", version=3, phase="training", done="half"),
        line("a", "progress"),
        line("a", "traffic", sent_bytes=None, received_bytes=0),
        line("stranger", "link up"),
        line(COORDINATOR, "version evaluated", version=7, accuracy=0.5),
        line(COORDINATOR, "version made", version=1, devices=["a"], staleness=[]),
        line(COORDINATOR, "update accepted", device="stranger"),
    ],
)
def test_a_line_that_is_not_as_it_should_be_changes_nothing(odd: Line) -> None:
    before = after(*WORKING)
    assert follow(before, odd) == before


def test_a_figure_that_is_not_finite_is_not_shown() -> None:
    told = line("a", "progress", version=3, phase="training", done=0.5, loss=float("nan"))
    assert device(*WORKING, told).loss is None
