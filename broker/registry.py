"""What the authority has issued: one SQLite file, every change of it durable and counted.

For each subject there is one row for each epoch; the last one is what holds. The count of changes
tells a running broker that it has something to take up.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from federation.certificates import CertificateError
from federation.database import open_database, transaction
from federation.files import replace_file

_SCHEMA = """
CREATE TABLE issued (
    subject TEXT NOT NULL,      -- id of a device; empty for the coordinator
    epoch INTEGER NOT NULL,
    serial TEXT,                -- of the certificate, hex; NULL for a password
    not_after INTEGER,          -- its end, seconds since 1970
    tls_key BLOB,               -- its public key, DER
    password TEXT,              -- as the broker's password file has it
    issued_at INTEGER NOT NULL,
    revoked_at INTEGER,
    PRIMARY KEY (subject, epoch)
) STRICT;
CREATE TABLE superseded (       -- certificates that were renewed or replaced
    serial TEXT PRIMARY KEY, not_after INTEGER NOT NULL, revoked INTEGER NOT NULL,
    subject TEXT NOT NULL
) STRICT;
CREATE TABLE state (only_row INTEGER PRIMARY KEY CHECK (only_row = 0), changes INTEGER NOT NULL)
    STRICT;
INSERT INTO state VALUES (0, 1);
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """What holds for one subject.

    Attributes:
        serial: of its certificate; None for one that logs in with a password.
        not_after: the certificate's end, seconds since 1970.
    """

    subject: str
    epoch: int
    serial: int | None
    not_after: int | None
    tls_key: bytes | None
    password: str | None
    issued_at: int
    revoked_at: int | None

    @property
    def is_revoked(self) -> bool:
        """Whether it is shut out."""
        return self.revoked_at is not None


class Registry:
    """The registry in a file; a few commands and a running broker may use it at the same time."""

    def __init__(self, path: Path, *, anew: bool = False) -> None:
        """Open it; or make it, where it is to be anew.

        Raises:
            Failure: it is not there, or cannot be used.
        """
        if not anew and not path.exists():
            raise Failure(
                ExitCode.CONFIG,
                f"{path} is missing: who is enrolled and who was revoked is in it; take it from a"
                " copy of the directory",
            )
        if not path.exists():
            replace_file(
                path, b"", private=True
            )  # in the directory of a service it is that service's
        self._database = open_database(path, "registry", _SCHEMA, version=1)
        self._database.execute("PRAGMA busy_timeout=10000")

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    @property
    def changes(self) -> int:
        """How often something was changed that a broker has to know."""
        (count,) = self._database.execute("SELECT changes FROM state").fetchone()
        return int(count)

    def entries(self) -> tuple[Entry, ...]:
        """What holds for each subject, by name."""
        rows = self._database.execute(_LAST + " ORDER BY subject").fetchall()
        return tuple(_entry(row) for row in rows)

    def find(self, subject: str) -> Entry | None:
        """What holds for one subject."""
        row = self._database.execute(_LAST + " AND subject = ?", (subject,)).fetchone()
        return None if row is None else _entry(row)

    def revoked_serials(self, now: int) -> tuple[int, ...]:
        """Certificates that are not over yet and must not be believed."""
        rows = self._database.execute(
            "SELECT serial FROM issued WHERE serial IS NOT NULL AND revoked_at IS NOT NULL"
            " AND not_after > ? UNION"
            " SELECT serial FROM superseded WHERE revoked AND not_after > ?",
            (now, now),
        ).fetchall()
        return tuple(sorted(int(serial, 16) for (serial,) in rows))

    @contextmanager
    def changing(self) -> Iterator[None]:
        """What is done inside happens whole or not at all, and is counted as a change."""
        with transaction(self._database):
            yield
            self._database.execute("UPDATE state SET changes = changes + 1")

    def next_epoch(self, subject: str) -> int:
        """The epoch of the next enrolment; inside `changing`."""
        query = "SELECT max(epoch) FROM issued WHERE subject = ?"
        (epoch,) = self._database.execute(query, (subject,)).fetchone()
        return 1 if epoch is None else int(epoch) + 1

    def enter(self, entry: Entry) -> None:
        """Note an enrolment; those before it of the same subject are revoked. Inside `changing`."""
        self.revoke(entry.subject, entry.issued_at)
        self._database.execute(
            "INSERT INTO issued VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                entry.subject,
                entry.epoch,
                None if entry.serial is None else f"{entry.serial:x}",
                entry.not_after,
                entry.tls_key,
                entry.password,
                entry.issued_at,
                entry.revoked_at,
            ),
        )

    def renew(self, entry: Entry, serial: int, not_after: int) -> None:
        """Note a new certificate for the same key. The former one ends when its time is over.

        Raises:
            CertificateError: it was revoked, or enrolled again, meanwhile.
        """
        with transaction(self._database):
            self._database.execute(
                "UPDATE issued SET serial = ?, not_after = ? WHERE subject = ? AND epoch = ?"
                " AND revoked_at IS NULL",
                (f"{serial:x}", not_after, entry.subject, entry.epoch),
            )
            if self._database.execute("SELECT changes()").fetchone() != (1,):
                raise CertificateError(f"{entry.subject} was revoked, or enrolled again, meanwhile")
            if entry.serial is not None and entry.not_after is not None:
                self._database.execute(
                    "INSERT INTO superseded VALUES (?, ?, 0, ?)",
                    (f"{entry.serial:x}", entry.not_after, entry.subject),
                )

    def revoke(self, subject: str, now: int) -> None:
        """Note that nothing holds any more of what this subject was given. Inside `changing`."""
        self._database.execute(
            "UPDATE issued SET revoked_at = ? WHERE subject = ? AND revoked_at IS NULL",
            (now, subject),
        )
        self._database.execute("UPDATE superseded SET revoked = 1 WHERE subject = ?", (subject,))


_LAST = (
    "SELECT subject, epoch, serial, not_after, tls_key, password, issued_at, revoked_at"
    " FROM issued WHERE (subject, epoch) IN (SELECT subject, max(epoch) FROM issued"
    " GROUP BY subject)"
)


def _entry(row: tuple[Any, ...]) -> Entry:
    subject, epoch, serial, *rest = row
    return Entry(subject, epoch, None if serial is None else int(serial, 16), *rest)
