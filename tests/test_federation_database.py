"""Databases: made whole or not at all, of a known format, durable by transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from federation.database import open_database, transaction

SCHEMA = "CREATE TABLE numbers (n INTEGER PRIMARY KEY); INSERT INTO numbers VALUES (1);"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_database(tmp_path / "db", "box", SCHEMA, 3)) as opened:
        yield opened


def numbers(database: sqlite3.Connection) -> list[int]:
    return [n for (n,) in database.execute("SELECT n FROM numbers ORDER BY n")]


def test_a_new_file_is_made_by_its_schema(database: sqlite3.Connection) -> None:
    assert numbers(database) == [1]


def test_a_file_that_is_there_is_left_as_it_is(
    database: sqlite3.Connection, tmp_path: Path
) -> None:
    database.execute("INSERT INTO numbers VALUES (2)")
    with closing(open_database(tmp_path / "db", "box", SCHEMA, 3)) as again:
        assert numbers(again) == [1, 2]


def test_what_is_inside_a_transaction_happens_together(database: sqlite3.Connection) -> None:
    with transaction(database):
        database.execute("INSERT INTO numbers VALUES (2)")
        database.execute("INSERT INTO numbers VALUES (3)")
    assert numbers(database) == [1, 2, 3]


def test_a_transaction_that_fails_leaves_nothing(database: sqlite3.Connection) -> None:
    def fail_half_way() -> None:
        with transaction(database):
            database.execute("INSERT INTO numbers VALUES (2)")
            database.execute("INSERT INTO numbers VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        fail_half_way()
    assert numbers(database) == [1]


def test_every_commit_is_forced_to_disk(database: sqlite3.Connection) -> None:
    assert database.execute("PRAGMA synchronous").fetchone() == (2,)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_another_format_is_a_clear_failure(tmp_path: Path) -> None:
    open_database(tmp_path / "db", "box", SCHEMA, 3).close()
    with pytest.raises(Failure, match="has format 3, this Flockwise knows 4") as told:
        open_database(tmp_path / "db", "box", SCHEMA, 4)
    assert told.value.code == ExitCode.CONFIG


def test_a_file_that_is_no_database_is_a_clear_failure(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Failure, match=r"box .*db: file is not a database") as told:
        open_database(tmp_path / "db", "box", SCHEMA, 3)
    assert told.value.code == ExitCode.CANNOT_WRITE


def test_a_schema_that_fails_makes_nothing(tmp_path: Path) -> None:
    with pytest.raises(Failure):
        open_database(tmp_path / "db", "box", SCHEMA + "CREATE TABLE numbers (n);", 3)
    with closing(open_database(tmp_path / "db", "box", SCHEMA, 3)) as opened:
        assert numbers(opened) == [1]
