"""Reports: a row a line, whatever becomes of the other sinks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from coordinator.reporting import Reporter, rows_in
from coordinator.vocabulary import Report
from tests.story import update, version


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
    assert second == {"kind": "version", "version": 4, "devices": ["one"], "bytes_up": 0}
    reporter.close()


def test_a_row_is_on_disk_before_the_next_one_comes(tmp_path: Path) -> None:
    reporter = Reporter(tmp_path / "reports.jsonl")
    reporter.write(Report("version", {"version": 1}))
    assert len(rows(tmp_path / "reports.jsonl")) == 1
    reporter.close()


def test_a_restart_goes_on_in_the_same_file(tmp_path: Path) -> None:
    for number in (1, 2):
        reporter = Reporter(tmp_path / "reports.jsonl")
        reporter.write(Report("version", {"version": number}))
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


def test_the_time_is_that_of_the_clock(tmp_path: Path) -> None:
    time_s = 100.0
    reporter = Reporter(tmp_path / "reports.jsonl", clock=lambda: time_s)
    time_s = 160.5
    reporter.write(Report("news", {}))
    reporter.close()
    assert rows(tmp_path / "reports.jsonl") == [{"kind": "news", "time_s": 60.5}]


def test_sums_go_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    for number in (1, 2):
        reporter = Reporter(path)
        for row in (update(f"device-{number}", held_out_accuracy=0.5), version(number)):
            facts = {name: value for name, value in row.items() if name not in ("kind", "time_s")}
            reporter.write(Report(row["kind"], facts))
        reporter.close()
    last = rows(path)[-1]
    assert last["bytes_up"] == 200
    assert last["on_device"]["devices"] == 2


def test_a_row_that_was_torn_takes_no_other_with_it(tmp_path: Path) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text('{"kind": "news"}\n{"kind": "upd')
    reporter = Reporter(path)
    reporter.write(Report("version", {"version": 1}))
    reporter.close()
    assert [row["kind"] for row in rows_in(path)] == ["news", "version"]


@pytest.mark.parametrize(
    "row", ["{}", "[]", '{"kind": "update"}', '{"kind": "version"}', "[" * 9999]
)
def test_odd_rows_of_an_earlier_start_do_no_harm(tmp_path: Path, row: str) -> None:
    path = tmp_path / "reports.jsonl"
    path.write_text(row + "\n")
    reporter = Reporter(path)
    reporter.write(Report("version", {"version": 1}))
    reporter.close()
    assert list(rows_in(path))[-1]["bytes_up"] == 0
