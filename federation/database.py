"""SQLite files whose every transaction is on disk when it returns, and whose format is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config.failures import ExitCode, Failure

_DURABLE = "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"


def open_database(path: Path, kind: str, schema: str, version: int) -> sqlite3.Connection:
    """Open a file, or make it by the statements of `schema`, all at once or not at all.

    Args:
        kind: what the file is, for messages.
        version: number of this schema, at least 1; the file keeps it.

    Raises:
        Failure: the file is not of this kind and version, or cannot be used.
    """
    try:
        database = sqlite3.connect(path, isolation_level=None)
        try:
            _prepare(database, f"{kind} {path}", schema, version)
        except BaseException:
            database.close()
            raise
    except sqlite3.Error as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"{kind} {path}: {error}") from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All statements inside happen, durably, or none does."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _prepare(database: sqlite3.Connection, name: str, schema: str, version: int) -> None:
    database.executescript(_DURABLE)
    (found,) = database.execute("PRAGMA user_version").fetchone()
    if found == 0:
        database.executescript(f"BEGIN; {schema} PRAGMA user_version={version}; COMMIT;")
    elif found != version:
        raise Failure(ExitCode.CONFIG, f"{name} has format {found}, this Flockwise knows {version}")
