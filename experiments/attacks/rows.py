"""One line a run: appended as runs end, and read again so that nothing is run twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from experiments.json_lines import append_line, lines_in


@dataclass(frozen=True, slots=True)
class Row:
    """What came of one run.

    Attributes:
        accuracy: of the last five versions, each on its own fifth of the test images.
        success: share of images with the backdoor's trigger that are taken for its target; None
            where nobody cares.
        finite: whether the model still consists of numbers.
        versions, updates: how many there came about and went into them.
        hostile_updates: those of hostile devices.
        left_out, hostile_left_out: updates that the rule left out of their version.
        refused: updates that were refused, by reason.
        quarantined, hostile_quarantined: devices that were put into quarantine.
    """

    attack: str
    rule: str
    seed: int
    accuracy: float
    success: float | None
    finite: bool
    versions: int
    updates: int
    hostile_updates: int
    left_out: int
    hostile_left_out: int
    refused: dict[str, int]
    quarantined: int
    hostile_quarantined: int
    virtual_s: float
    cpu_s: float

    @property
    def key(self) -> tuple[str, str, int]:
        """Which run it was."""
        return self.attack, self.rule, self.seed


def append_row(path: Path, row: Row, about: Mapping[str, Any]) -> None:
    """Add a row to the file; `about` is what the run was made with.

    Raises:
        Failure: the file cannot be written.
    """
    append_line(path, {**asdict(row), **about})


def read_rows(path: Path, scheme: Mapping[str, Any]) -> list[Row]:
    """The rows of a file that were made by this scheme; none if there is no file.

    A line that was broken off is passed over: its run is made again.

    Raises:
        Failure: the file cannot be read, or is not one of rows.
    """
    names = [field.name for field in fields(Row)]
    rows = []
    for number, values in lines_in(path):
        try:
            if values["scheme"] == scheme:
                rows.append(Row(**{name: values[name] for name in names}))
        except (KeyError, TypeError):
            message = f"{path}:{number} is not a row of lab attack"
            raise Failure(ExitCode.NO_INPUT, message) from None
    return rows
