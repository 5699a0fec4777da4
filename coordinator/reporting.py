"""Reports: each row goes to a JSONL file always, and to further sinks that may fail alone.

`reports.jsonl` is the story of a run, real or simulated: whatever is drawn or logged elsewhere is
made of its rows. A restart goes on in the same file; `time_s` begins anew.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from config.failures import ExitCode, Failure
from coordinator.tally import Tally
from coordinator.vocabulary import Report
from federation.files import is_storage_full

log = logging.getLogger(__name__)

Row: TypeAlias = dict[str, Any]

# What a row of an earlier start, or one that somebody altered, may lack.
ODD_ROW = (KeyError, TypeError, ValueError, AttributeError)


class Sink(Protocol):
    """Where rows go beyond the file: Weights & Biases, or whatever draws curves."""

    def write(self, row: Row) -> None:
        """Take one row; `kind` says what it is about."""

    def close(self) -> None:
        """Nothing more will come."""


class Reporter:
    """Writes rows to `reports.jsonl` and hands them to the sinks, in order.

    Sinks that look at the rows of earlier starts are made before it, as it goes on in their file.
    """

    def __init__(
        self,
        path: Path,
        sinks: tuple[Sink, ...] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Append to the file; what its rows add up to so far is remembered.

        Args:
            clock: seconds; `time_s` of a row are those since now. A simulation has its own.

        Raises:
            Failure: the file cannot be written.
        """
        self._sinks = sinks
        self._clock = clock
        self._began_s = clock()
        self._told = False
        self._tally = Tally()
        torn = _is_torn(path)
        for row in rows_in(path):
            with suppress(*ODD_ROW):
                self._tally.take(row)
        try:
            self._file = path.open("a", encoding="utf-8", buffering=1)
            if torn:
                self._file.write("\n")
        except OSError as error:
            raise Failure(
                ExitCode.CANNOT_WRITE, f"cannot write reports to {path}: {error.strerror}"
            ) from None

    def write(self, report: Report) -> None:
        """Write one row: its kind, seconds since the start, and its facts."""
        elapsed_s = round(self._clock() - self._began_s, 3)
        row = self._tally.take({"kind": report.kind, "time_s": elapsed_s, **report.facts})
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


def rows_in(path: Path, size: int | None = None) -> Iterator[Row]:
    """The rows of a file of reports, one at a time; what is no row, or torn, is passed over.

    Args:
        size: how many bytes of it to read, as it may still grow; all, unless given.
    """
    try:
        file = path.open("rb")
    except OSError:
        return
    with file:
        read = 0
        for line in file:
            read += len(line)
            if size is not None and read > size:
                return
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(row, dict):
                yield row


def _is_torn(path: Path) -> bool:
    """Whether the last line has no end: the next row is not to be lost with it."""
    try:
        with path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) not in (b"\n", b"")
    except OSError:  # not there, or empty
        return False
