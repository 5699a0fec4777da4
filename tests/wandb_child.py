"""A process that reports rows to the real W&B, as a coordinator does; started by tests.

    python -m tests.wandb_child FOLDER PART MODE [die]

`FOLDER` holds the state of one coordinator; `die` is a loss of power once all is logged.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from config.reporting import Reporting
from coordinator.reporting import Reporter, Row
from coordinator.sources import Sources, earlier_rows, images_of
from coordinator.vocabulary import Report
from coordinator.wandb_rows import RowLog
from coordinator.wandb_sink import FLUSH_S, WandbSink
from tests import story


def main(folder: Path, part: str, mode: str, *end: str) -> None:
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="log: %(message)s")
    reports, test_set = folder / "reports.jsonl", story.a_test_set(folder / "test.npz")
    sources = Sources(
        checkpoint=lambda version: _checkpoint(folder, version),
        images=images_of(test_set),
        test_set=test_set,
        earlier=earlier_rows(reports),
    )
    reporting = Reporting.model_validate(
        {
            "wandb": mode,
            "project": "birds",
            "group": "sweep-1",
            "job_type": "federation",
            "run_name": "first try",
            "tags": "small, noisy",
            "artifacts": "tested",
            "tables_every": 3,
        }
    )
    sink = WandbSink(reporting, {"versions": 4}, folder, "0123456789abcdef", sources)
    clock = [0.0]
    reporter = Reporter(reports, (sink,), lambda: clock[0])
    taken = _counted()
    rows = getattr(story, part)()
    for row in rows:
        clock[0] = row["time_s"]
        facts = {name: value for name, value in row.items() if name not in ("kind", "time_s")}
        reporter.write(Report(row["kind"], facts))
    if end:
        _await_log(folder, lambda: len(taken) == len(rows))
        os.kill(os.getpid(), 9)
    reporter.close()


def _counted() -> list[object]:
    """What W&B is told from now on."""
    taken: list[object] = []
    take = RowLog.take

    def counting(log: RowLog, row: Row) -> None:
        take(log, row)
        taken.append(row)

    RowLog.take = counting  # type: ignore[method-assign]
    return taken


def _await_log(folder: Path, is_told: Callable[[], bool]) -> None:
    """Wait until all is told, and W&B's own log has not grown for longer than it keeps rows."""
    before, grown_s = -1, time.monotonic()
    while not is_told() or time.monotonic() - grown_s < 2 * FLUSH_S + 1:
        time.sleep(0.1)
        size = sum(path.stat().st_size for path in folder.glob("wandb/*/*.wandb"))
        if size != before:
            before, grown_s = size, time.monotonic()


def _checkpoint(folder: Path, version: int) -> Path | None:
    """Every version but the second is stored."""
    if version == 2:
        return None
    path = folder / f"{version:06}.safetensors"
    path.write_bytes(bytes([version]) * 100)
    return path


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
