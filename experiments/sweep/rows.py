"""One line a run of a sweep: appended as runs end, and read again so that none is made twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from experiments.json_lines import append_line, lines_in

SWEEP = "sweep.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one run.

    Attributes:
        key: of the settings and images; the same ones give the same.
        best, final: of the metric: its best value and its last one, None if it has none.
        history: the metric at each version that has it.
        figures: the last values of all curves but those of devices.
        time_to_target, updates_to_target, bytes_to_target: to the first test at `target`.
        ending: versions, target or time, as a simulation ends; or early, where it fell behind.
        model: digest of the last version.
        problem: why there are no figures; empty where there are.
        made_on: machine and software.
    """

    key: str
    parameters: Mapping[str, Any]
    seed: int
    metric: str
    best: float | None = None
    final: float | None = None
    history: tuple[float, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)
    time_to_target: float | None = None
    updates_to_target: int | None = None
    bytes_to_target: int | None = None
    versions: int = 0
    updates: int = 0
    virtual_s: float = 0.0
    wall_s: float = 0.0
    ending: str = ""
    generated: bool = False
    model: str = ""
    problem: str = ""
    made_on: Mapping[str, Any] = field(default_factory=dict)


def append_row(path: Path, row: Row) -> None:
    """Add a row to the file.

    Raises:
        Failure: the file cannot be written.
    """
    append_line(path, asdict(row))


def read_rows(path: Path, metric: str) -> dict[str, Row]:
    """The rows of a file by their key, those that failed left out: they are run again.

    Raises:
        Failure: the file cannot be read, is not one of rows, or has those of another metric.
    """
    rows = {}
    for number, values in lines_in(path):
        row = _row(values)
        if row is None:
            raise Failure(ExitCode.NO_INPUT, f"{path}:{number} is not a row of lab sweep")
        if row.metric != metric:
            raise Failure(
                ExitCode.NO_INPUT,
                f"{path} has runs for {row.metric}, and the metric is {metric} now; choose another"
                " --output",
            )
        if not row.problem:
            rows[row.key] = row
    return rows


def _row(values: Any) -> Row | None:
    names = {one.name for one in fields(Row)}
    if not isinstance(values, dict) or not values.keys() >= _NEEDED:
        return None
    known = {name: value for name, value in values.items() if name in names}
    return Row(**{**known, "history": tuple(known.get("history", ()))})


_NEEDED = frozenset({"key", "parameters", "seed", "metric"})
