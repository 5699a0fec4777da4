"""A database as it is now, read beside the process that has it open, leaving nothing behind."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from config.failures import ExitCode, Failure

_WAL_HEADER_BYTES = 32
_ATTEMPTS = 10


@contextmanager
def open_snapshot(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a copy of a database: SQLite makes files beside what it reads, even read-only.

    The log (WAL) is copied last: what is moved from it into the database meanwhile is in it still,
    unless it was begun anew, which changes its header.

    Raises:
        OSError, sqlite3.Error: the file is not there, or is no database.
        Failure: it changes too fast.
    """
    log = path.with_name(path.name + "-wal")
    with TemporaryDirectory(prefix="flockwise-snapshot-") as name:
        copy, copied_log = Path(name) / path.name, Path(name) / log.name
        for _ in range(_ATTEMPTS):
            before = _header(log)
            shutil.copyfile(path, copy)
            copied_log.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                shutil.copyfile(log, copied_log)
            if _header(log) == before:
                break
        else:
            raise Failure(ExitCode.FAILURE, f"{path} changes too fast; ask again")
        with closing(sqlite3.connect(copy)) as database:
            yield database


def _header(log: Path) -> bytes | None:
    try:
        with log.open("rb") as file:
            return file.read(_WAL_HEADER_BYTES)
    except FileNotFoundError:
        return None
