"""Databases: made whole or not at all, of a known format, durable by transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from federation.database import open_database, transaction
from federation.files import is_storage_full
from tests.small_disk import a_small_disk

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


STEPS = {1: "CREATE TABLE two (n); INSERT INTO numbers VALUES (2);", 2: "DROP TABLE two;"}


def test_an_older_file_is_brought_up_to_date_step_by_step(tmp_path: Path) -> None:
    open_database(tmp_path / "db", "box", SCHEMA, 1).close()
    with closing(open_database(tmp_path / "db", "box", "not used;", 3, STEPS)) as opened:
        assert numbers(opened) == [1, 2]
        assert opened.execute("PRAGMA user_version").fetchone() == (3,)
    with closing(open_database(tmp_path / "db", "box", "not used;", 3, STEPS)) as again:
        assert numbers(again) == [1, 2], "it is done once"


def test_a_file_that_is_too_old_or_too_new_is_left_as_it_is(tmp_path: Path) -> None:
    open_database(tmp_path / "db", "box", SCHEMA, 1).close()
    with pytest.raises(Failure, match="has format 1, this Flockwise knows 3"):
        open_database(tmp_path / "db", "box", SCHEMA, 3, {2: STEPS[2]})
    open_database(tmp_path / "new", "box", SCHEMA, 4).close()
    with pytest.raises(Failure, match="has format 4, this Flockwise knows 3"):
        open_database(tmp_path / "new", "box", SCHEMA, 3, STEPS)


def test_a_step_that_fails_leaves_the_older_file(tmp_path: Path) -> None:
    open_database(tmp_path / "db", "box", SCHEMA, 1).close()
    with pytest.raises(Failure):
        open_database(tmp_path / "db", "box", "", 3, {1: STEPS[1], 2: "DROP TABLE nothing;"})
    with closing(open_database(tmp_path / "db", "box", SCHEMA, 1)) as opened:
        assert numbers(opened) == [1]


# A full disk


@pytest.mark.parametrize("free_kib", range(0, 120, 4))
def test_a_full_disk_fails_one_transaction_and_nothing_else(tmp_path: Path, free_kib: int) -> None:
    with a_small_disk(tmp_path / "disk", 512) as disk:
        path = disk.path / "db"
        open_database(path, "box", SCHEMA, 3).close()
        disk.fill(free_kib * 1024)
        before = [1]
        try:
            opened = open_database(path, "box", SCHEMA, 3)
        except sqlite3.Error as error:
            assert is_storage_full(error), error  # noqa: PT017
            disk.free()
            opened = open_database(path, "box", SCHEMA, 3)
            disk.fill(free_kib * 1024)
        with closing(opened) as database:
            for _ in range(2):
                with suppress(sqlite3.Error):
                    fill_by(database)
                assert not database.in_transaction
                before = numbers(database)
            disk.free()
            with transaction(database):
                database.execute("INSERT INTO numbers VALUES (0)")
            assert numbers(database) == [0, *before]
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_log_that_is_written_back_makes_room_for_what_comes(tmp_path: Path) -> None:
    with (
        a_small_disk(tmp_path / "disk", 512) as disk,
        closing(open_database(disk.path / "db", "box", SCHEMA, 3)) as database,
    ):
        for number in range(2, 42):
            change(database, number)
        database.execute("PRAGMA wal_checkpoint")
        disk.fill()
        failed = 0
        for number in range(42, 400):
            try:
                change(database, number)
            except sqlite3.OperationalError:
                failed += 1
        assert 0 < failed < 20, "the log has the room of its own length, and begins anew"
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_disk_without_room_for_another_file_is_full(tmp_path: Path) -> None:
    with a_small_disk(tmp_path / "disk", 512, "nr_inodes=3") as disk:
        with pytest.raises(OSError, match="No space left") as told:
            open_database(disk.path / "db", "box", SCHEMA, 3)
        assert is_storage_full(told.value)


def test_a_path_that_cannot_be_opened_is_not_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="unable to open database file") as told:
        open_database(tmp_path / "missing" / "db", "box", SCHEMA, 3)
    assert told.value.code == ExitCode.CANNOT_WRITE


def fill_by(database: sqlite3.Connection) -> None:
    """Write until the disk is full."""
    for _ in range(1000):
        with transaction(database):
            database.execute("INSERT INTO numbers SELECT max(n) + 1 FROM numbers")


def change(database: sqlite3.Connection, number: int) -> None:
    with transaction(database):
        database.execute("UPDATE numbers SET n = ?", (number,))
