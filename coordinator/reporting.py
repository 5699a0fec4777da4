"""Reports: each row goes to a JSONL file always, and to further sinks that may fail alone."""

from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import Any, Protocol

from config.failures import ExitCode, Failure
from coordinator.vocabulary import Report
from federation.files import is_storage_full

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where rows go beyond the file: Weights & Biases, or whatever draws curves."""

    def write(self, row: dict[str, Any]) -> None:
        """Take one row; `kind` says what it is about."""

    def close(self) -> None:
        """Nothing more will come."""


class Reporter:
    """Writes rows to `reports.jsonl` and hands them to the sinks, in order."""

    def __init__(self, path: Path, sinks: tuple[Sink, ...] = ()) -> None:
        """Append to the file.

        Raises:
            Failure: the file cannot be written.
        """
        self._sinks = sinks
        self._began_s = time.monotonic()
        self._told = False
        try:
            self._file = path.open("a", encoding="utf-8", buffering=1)
        except OSError as error:
            raise Failure(
                ExitCode.CANNOT_WRITE, f"cannot write reports to {path}: {error.strerror}"
            ) from None

    def write(self, report: Report) -> None:
        """Write one row: its kind, seconds since the start, and its facts."""
        elapsed_s = round(time.monotonic() - self._began_s, 3)
        row = {"kind": report.kind, "time_s": elapsed_s, **report.facts}
        try:
            self._file.write(json.dumps(row) + "\n")
        except OSError as error:
            self._tell_once(error)
        for sink in self._sinks:
            sink.write(row)

    def close(self) -> None:
        """Close the file and the sinks."""
        try:
            self._file.close()
        except OSError as error:
            self._tell_once(error)
        for sink in self._sinks:
            sink.close()

    def _tell_once(self, error: OSError) -> None:
        # The ledger has what matters: a disk that is full does not end the coordinator here.
        if not is_storage_full(error):
            raise error
        if not self._told:
            log.warning("storage full: rows of reports.jsonl are lost")
        self._told = True
