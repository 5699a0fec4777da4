"""Reports for TensorBoard: the same curves as everywhere, in files of events.

torch's writer is used, so torch comes into the coordinator's process: only here, and only where
somebody asked for TensorBoard. Each start writes a file of its own beside the earlier ones, and
TensorBoard joins them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from config.reporting import Reporting
from coordinator.alarms import Alarms
from coordinator.curves import Curves, Histogram
from coordinator.reporting import ODD_ROW, Row
from coordinator.sink_thread import SinkThread
from coordinator.sources import NOTHING, Sources

FLUSH_S = 5


class TensorBoardSink:
    """The curves of one run, in a folder of its own in the directory."""

    def __init__(
        self,
        reporting: Reporting,
        directory: Path,
        run_id: str,
        sources: Sources = NOTHING,
        close_s: float | None = None,
    ) -> None:
        """Begin.

        Args:
            directory: what TensorBoard is given as its `--logdir`; the run has a folder in it.
            run_id: the folder's name where the settings have no name for the run.
            sources: where earlier rows are.
            close_s: how long it may take to end (None: as long as a coordinator can spare).
        """
        self._folder = directory / folder_name(reporting.run_name, run_id)
        self._alarms = Alarms(reporting.alert_fall)
        self._curves = Curves()
        self._sources = sources
        self._began_s = time.time()
        self._thread = SinkThread("tensorboard", self._log_rows, missed=True, close_s=close_s)

    def write(self, row: Row) -> None:
        """Take one row."""
        self._thread.write(row)

    def close(self) -> None:
        """Write what is still waiting, for a while."""
        self._thread.close()

    def _log_rows(self, rows: Iterator[Row]) -> None:
        from torch.utils.tensorboard import (  # noqa: PLC0415 - seconds, and much memory
            SummaryWriter,
        )

        for row in self._sources.earlier():
            try:
                self._curves.take(row)
                self._alarms.take(row)
            except ODD_ROW:
                continue
        self._alarms.begin()
        writer = SummaryWriter(str(self._folder), flush_secs=FLUSH_S)
        try:
            for row in rows:
                self._log(writer, row)
        finally:
            writer.close()

    def _log(self, writer: Any, row: Row) -> None:
        shown = self._curves.take(row)
        if shown is None:
            return
        # TensorBoard's relative time is then that of the row: virtual in a simulation.
        at = {"global_step": shown.version, "walltime": self._began_s + shown.time_s}
        for name, value in shown.scalars.items():
            writer.add_scalar(name, value, **at)
        for name, made in shown.histograms.items():
            writer.add_histogram_raw(name, **raw(made), **at)
        if "confusion" in row:
            writer.add_text("confusion_matrix", table(row["confusion"], row["classes"]), **at)
        if (alarm := self._alarms.take(row)) is not None:
            writer.add_text("alerts", f"**{alarm.title}** {alarm.text}", **at)


def folder_name(run_name: str | None, run_id: str) -> str:
    """A name for a folder: that of the run as far as it may be one, or its id."""
    plain = re.sub(r"[^\w.-]+", "_", run_name or "").strip("._")
    return plain or run_id


def raw(histogram: Histogram) -> dict[str, Any]:
    """A histogram as TensorBoard takes it: each value at the middle of its bin."""
    edges, counts = histogram.edges, histogram.counts
    middles = [(low + high) / 2 for low, high in pairwise(edges)]
    return {
        "min": edges[0],
        "max": edges[-1],
        "num": sum(counts),
        "sum": sum(c * m for c, m in zip(counts, middles, strict=True)),
        "sum_squares": sum(c * m * m for c, m in zip(counts, middles, strict=True)),
        "bucket_limits": list(edges[1:]),
        "bucket_counts": list(counts),
    }


def table(matrix: list[list[int]], classes: list[str]) -> str:
    """A confusion matrix in Markdown: a row for each true class, a column for each guess."""
    lines = [["truth \\ guess", *classes], ["---"] * (len(classes) + 1)]
    lines += [[name, *map(str, counts)] for name, counts in zip(classes, matrix, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
