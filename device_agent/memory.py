"""What this device remembers of what was taken of it: a file, and which one it is.

It is a table of the outbox, so that all of it happens in the transaction that makes an update one,
or ends it. A training leaves a candidate, what the memory is if its update is accepted; on a
receipt that says so it is the one that is held, and on any other it is dropped. A memory belongs to
one ledger and one layout. What lies in the files is as telling as an update.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from pathlib import Path

from blake3 import blake3

from federation.messages import Header

MEMORY_SCHEMA = """
CREATE TABLE IF NOT EXISTS memories (
    sequence INTEGER PRIMARY KEY, about BLOB NOT NULL, digest BLOB NOT NULL, held INTEGER NOT NULL
)
"""


class Memories:
    """The memory that is held, and the candidate of the update that waits. Both are files."""

    def __init__(self, db: sqlite3.Connection, folder: Path) -> None:
        self._db = db
        self._folder = folder

    def path(self, sequence: int) -> Path:
        """Where the memory lies that this update leads to."""
        return self._folder / f"{sequence}.memory"

    def files(self) -> frozenset[Path]:
        """All files that are named."""
        return frozenset(self.path(n) for (n,) in self._db.execute("SELECT sequence FROM memories"))

    def held(self, header: Header) -> Path | None:
        """Where the memory lies that a training on this version begins with; None at first."""
        query = "SELECT sequence FROM memories WHERE held AND about = ?"
        row = self._db.execute(query, (_about(header),)).fetchone()
        return None if row is None else self.path(row[0])

    def has_candidate(self, sequence: int) -> bool:
        """Whether this update was made against a memory, and is not judged yet."""
        query = "SELECT 1 FROM memories WHERE sequence = ? AND NOT held"
        return self._db.execute(query, (sequence,)).fetchone() is not None

    def enter(self, sequence: int, header: Header) -> None:
        """An update that is being committed leads to what lies at its path, if it has a memory.

        What belongs to another ledger, layout or way is dropped.
        """
        about = _about(header) if header.plan.memory else b""
        self._db.execute("DELETE FROM memories WHERE about != ?", (about,))
        if about:
            row = (sequence, about, _digest(self.path(sequence)))
            self._db.execute("INSERT INTO memories VALUES (?, ?, ?, 0)", row)

    def settle(self, sequence: int, *, accepted: bool) -> None:
        """An update is being deleted, as it is judged."""
        if not accepted:
            self._db.execute("DELETE FROM memories WHERE sequence = ? AND NOT held", (sequence,))
        elif self.has_candidate(sequence):
            self._db.execute("DELETE FROM memories WHERE held")
            self._db.execute("UPDATE memories SET held = 1 WHERE sequence = ?", (sequence,))

    def drop(self) -> None:
        """Remember nothing."""
        self._db.execute("DELETE FROM memories")

    def are_whole(self) -> bool:
        """Whether all files are as they were when they were entered."""
        rows = self._db.execute("SELECT sequence, digest FROM memories").fetchall()
        try:
            return all(_digest(self.path(sequence)) == digest for sequence, digest in rows)
        except FileNotFoundError:
            return False


def _about(header: Header) -> bytes:
    layout = hashlib.blake2b(json.dumps(header.layout).encode(), digest_size=16)
    return header.ledger + layout.digest()


def _digest(path: Path) -> bytes:
    return blake3().update_mmap(path).digest(length=16)
