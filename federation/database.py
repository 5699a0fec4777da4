"""SQLite files whose every transaction is on disk when it returns, and whose format is known."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import MappingProxyType

from config.failures import ExitCode, Failure
from federation.files import is_storage_full

# The log is written to the database often and never cut: it stays small, and its length is room
# that is there for the next transactions when the disk is full.
_DURABLE = (
    "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;"
    "PRAGMA wal_autocheckpoint=64;"
)

NO_MIGRATIONS: Mapping[int, str] = MappingProxyType({})


def open_database(
    path: Path,
    kind: str,
    schema: str,
    version: int,
    migrations: Mapping[int, str] = NO_MIGRATIONS,
) -> sqlite3.Connection:
    """Open a file, or make it by the statements of `schema`, all at once or not at all.

    Args:
        kind: what the file is, for messages.
        version: number of this schema, at least 1; the file keeps it.
        migrations: for an older version the statements that make the next one of it. A file of
            such a version is brought up to date, all at once or not at all.

    Raises:
        Failure: the file is not of this kind and version, or cannot be used.
        sqlite3.Error, OSError: the disk is full; what was begun is done at the next opening.
    """
    path.with_name(f"{path.name}.part").unlink(missing_ok=True)  # of a probe that was killed
    try:
        database = sqlite3.connect(path, isolation_level=None)
        try:
            _prepare(database, f"{kind} {path}", schema, version, migrations)
        except BaseException:
            database.close()
            raise
    except sqlite3.Error as error:
        if is_storage_full(error):
            raise
        _see_that_files_can_be_made(path)
        raise Failure(ExitCode.CANNOT_WRITE, f"{kind} {path}: {error}") from None
    return database


@contextmanager
def transaction(database: sqlite3.Connection) -> Iterator[None]:
    """All statements inside happen, durably, or none does."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
        database.execute("COMMIT")
    except BaseException as error:
        if database.in_transaction:  # else SQLite has rolled back, as it does on a full disk
            database.execute("ROLLBACK")
        if is_storage_full(error):
            # The log then begins anew, in the room that it has: the next attempt may need no more.
            with suppress(sqlite3.Error):
                database.execute("PRAGMA wal_checkpoint")
        raise


def _see_that_files_can_be_made(path: Path) -> None:
    """A disk without room for another file is full; SQLite says only that it cannot open one."""
    probe = path.with_name(f"{path.name}.part")
    with suppress(FileNotFoundError, PermissionError, NotADirectoryError):
        try:
            probe.touch()
        finally:
            probe.unlink(missing_ok=True)


def _prepare(
    database: sqlite3.Connection,
    name: str,
    schema: str,
    version: int,
    migrations: Mapping[int, str],
) -> None:
    database.executescript(_DURABLE)
    (found,) = database.execute("PRAGMA user_version").fetchone()
    steps = [migrations.get(older) for older in range(found, version)]
    if found == 0:
        steps = [schema]
    if found > version or None in steps:
        raise Failure(ExitCode.CONFIG, f"{name} has format {found}, this Flockwise knows {version}")
    if steps:
        statements = " ".join(step for step in steps if step is not None)
        database.executescript(f"BEGIN; {statements} PRAGMA user_version={version}; COMMIT;")
