"""Reports: a row a line, whatever becomes of the other sinks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from coordinator.reporting import Reporter
from coordinator.vocabulary import Report


class Kept:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        self.closed = False

    def write(self, row: dict[str, Any]) -> None:
        self.rows.append(row)

    def close(self) -> None:
        self.closed = True


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_each_report_is_a_line_that_says_what_and_when(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    reporter = Reporter(path)
    reporter.write(Report("evaluation", {"version": 3, "accuracy": 0.5}))
    reporter.write(Report("version", {"version": 4, "devices": ["one"]}))
    first, second = rows(path)
    assert first.pop("time_s") <= second.pop("time_s")
    assert first == {"kind": "evaluation", "version": 3, "accuracy": 0.5}
    assert second == {"kind": "version", "version": 4, "devices": ["one"]}
    reporter.close()


def test_a_row_is_on_disk_before_the_next_one_comes(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "reports.jsonl")
    reporter.write(Report("version", {"version": 1}))
    assert len(rows(tmp_path / "reports.jsonl")) == 1
    reporter.close()


def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for version in (1, 2):
        reporter = Reporter(tmp_path / "reports.jsonl")
        reporter.write(Report("version", {"version": version}))
        reporter.close()
    assert [row["version"] for row in rows(tmp_path / "reports.jsonl")] == [1, 2]


def test_what_devices_say_cannot_break_a_line(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "reports.jsonl")
    detail = 'a\n{"kind": "version"}\r\u2028"\\'
    reporter.write(Report("refusal", {"detail": detail}))
    (row,) = rows(tmp_path / "reports.jsonl")
    assert row["detail"] == detail
    reporter.close()


def test_the_sinks_are_given_the_same_rows_and_closed(tmp_path: Path) -> None:
    one, two = Kept(), Kept()
    reporter = Reporter(tmp_path / "reports.jsonl", (one, two))
    reporter.write(Report("version", {"version": 1}))
    reporter.close()
    assert one.rows == two.rows == rows(tmp_path / "reports.jsonl")
    assert one.closed
    assert two.closed


def test_a_file_that_cannot_be_written_is_told_by_its_name(tmp_path: Path) -> None:
    with pytest.raises(Failure, match=f"cannot write reports to {tmp_path}") as caught:
        Reporter(tmp_path)
    assert caught.value.code == ExitCode.CANNOT_WRITE
