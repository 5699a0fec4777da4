"""Which updates of an outbox were made with noise: on record for ever, as epsilon is told from it.

It is a table of the outbox, entered in the transaction that makes an update one. So an update is
counted once, however often it is sent; and a training that was never committed never left the
device, and counts for nothing.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

from config.failures import ExitCode, Failure
from federation.snapshot import open_snapshot

PAST_SCHEMA = """
CREATE TABLE IF NOT EXISTS noised (
    sequence INTEGER PRIMARY KEY, clip REAL NOT NULL, noise REAL NOT NULL
)
"""


@dataclass(frozen=True, slots=True)
class Past:
    """The updates that an outbox ever made: with noise, the sum of (1 / noise)², and without."""

    noised: int
    mu_squared: float
    bare: int


def enter_noised(db: sqlite3.Connection, sequence: int, clip: float, noise: float) -> None:
    """An update that is being committed has this noise."""
    db.execute("INSERT INTO noised VALUES (?, ?, ?)", (sequence, clip, noise))


def is_noised(db: sqlite3.Connection, sequence: int) -> bool:
    """Whether this update was made with noise."""
    query = "SELECT 1 FROM noised WHERE sequence = ?"
    return db.execute(query, (sequence,)).fetchone() is not None


def read_past(db: sqlite3.Connection) -> Past:
    """The updates that were ever made."""
    (made,) = db.execute("SELECT next_sequence FROM identity").fetchone()
    noised, mu_squared = 0, 0.0
    # The outbox of a Flockwise that knew no noise has no such table until it is next opened.
    if db.execute("SELECT 1 FROM sqlite_master WHERE name = 'noised'").fetchone():
        query = "SELECT count(*), total(1 / (noise * noise)) FROM noised"
        noised, mu_squared = db.execute(query).fetchone()
    return Past(noised, mu_squared, made - noised)


def past_of(folder: Path) -> Past:
    """As `read_past`, beside the agent that has the outbox open; where there is none, no updates.

    Raises:
        Failure: the file cannot be read.
    """
    path = folder / "outbox.sqlite"
    if not path.is_file():
        return Past(0, 0.0, 0)
    try:
        with open_snapshot(path) as db:
            return read_past(db)
    except (OSError, sqlite3.Error) as error:
        raise Failure(ExitCode.NO_INPUT, f"outbox {path}: {error}") from None
