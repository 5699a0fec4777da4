"""The rows of a sweep, those of earlier calls among them; each is kept as soon as it is there."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from config.failures import ExitCode, Failure
from experiments.sweep.definition import Definition
from experiments.sweep.lines import row_line, say
from experiments.sweep.metrics import Metric
from experiments.sweep.points import Run
from experiments.sweep.rows import SWEEP, Row, append_row, read_rows
from experiments.sweep.table import cells, table
from federation.files import replace_file
from learning.data import ImageSet

DEFINITION = "sweep.yaml"


@dataclass(slots=True)
class Book:
    """What is known of the runs of this sweep.

    Attributes:
        varied: names of the parameters that have more than one value.
        total: how many runs there will be, where that is known.
    """

    metric: Metric
    varied: tuple[str, ...]
    output: Path | None
    rows: dict[str, Row] = field(default_factory=dict)
    total: int | None = None

    def take_up(self, runs: Sequence[Run]) -> list[Run]:
        """Read the rows of earlier calls; the runs that are still to be made.

        Raises:
            Failure: what is there cannot be read, or is of another metric.
        """
        there = {} if self.output is None else read_rows(self.output / SWEEP, self.metric.name)
        self.rows = {run.key: there[run.key] for run in runs if run.key in there}
        self.total = len(runs)
        return [run for run in runs if run.key not in self.rows]

    def keep(self, row: Row) -> None:
        """Take a row that is made; tell of it."""
        self.rows[row.key] = row
        if self.output is not None:
            append_row(self.output / SWEEP, row)
        of = "" if self.total is None else f"/{self.total}"
        say(f"{len(self.rows)}{of}  {row_line(row, self.varied)}")

    @property
    def is_good_enough(self) -> bool:
        """Whether a run has reached the target of the metric: no more are begun."""
        return any(self.metric.is_reached(row.best) for row in self.rows.values())

    def show(self, *, as_json: bool) -> None:
        """Show what it comes to: the table, on stdout."""
        found = cells(self.rows.values(), self.metric)
        if as_json:
            print(json.dumps([asdict(cell) for cell in found], indent=1))
            return
        if any(row.generated for row in self.rows.values()):
            print("ON GENERATED IMAGES, NOT REAL ONES")
        for line in table(found, self.metric):
            print(line)
        for row in self.rows.values():
            if row.problem:
                print(row_line(row, self.varied))


def keep_definition(definition: Definition, output: Path | None) -> None:
    """Leave the definition beside the rows.

    Raises:
        Failure: the directory cannot be written.
    """
    if output is None:
        return
    try:
        output.mkdir(parents=True, exist_ok=True)
        replace_file(output / DEFINITION, Path(definition.source).read_bytes())
    except OSError as error:
        message = f"cannot write {output}: {error.strerror}"
        raise Failure(ExitCode.CANNOT_WRITE, message) from None


def digest_of(images: ImageSet | None) -> str:
    """What tells images from others; empty where each run makes its own of its settings."""
    if images is None:
        return ""
    told = hashlib.blake2b(digest_size=8)
    for part in (images.train_images, images.train_labels, images.test_images, images.test_labels):
        told.update(part.tobytes())
    return told.hexdigest()
