"""The outbox: what a device has learned and the coordinator has not judged yet.

One SQLite file holds who the device is to the coordinator (a random identity made with the
outbox), the next sequence number, the offers, and which residual is the current one. Payloads and
residuals are files that lie there before the transaction that names them, so a crash leaves an
update whole or not at all; files that nobody names are swept away at the next start. So is an
update whose payload is no longer what was offered: nobody could take it in.

A judged update gives its room back first, lest there be none to note that it is judged: a payload
that is cut to nothing says so, as no update is empty. Of one that leads to a memory
(`device_agent.memory`) it matters how it was judged: it is cut to one byte if it was accepted, and
to two if it was not, as none is so short either.

With a memory the coordinator's sum is that of all devices' update for update. A device that cannot
tell any more what was taken of it begins anew, as one whose disk is new: under another identity.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from contextlib import suppress
from os import urandom
from pathlib import Path

from config.logs import facts
from device_agent.memory import MEMORY_SCHEMA, Memories
from device_agent.past import PAST_SCHEMA, Past, enter_noised, is_noised, read_past
from device_agent.room import see_room_for
from device_agent.vocabulary import TrainingEnded
from federation.database import open_database, transaction
from federation.messages import Header, Offer, decode, encode
from federation.sealing import key_id
from federation.transfer import held_chunks, manifest_of_file

COMMIT_BYTES = 64 * 1024
# How long the payload of a judged update is; the last two if it leads to a memory.
JUDGED, ACCEPTED, NOT_ACCEPTED = 0, 1, 2

log = logging.getLogger(__name__)

_SCHEMA_VERSION = 1
_SCHEMA = """
CREATE TABLE identity (
    outbox BLOB NOT NULL, boots INTEGER NOT NULL, next_sequence INTEGER NOT NULL,
    residual TEXT, trained_ledger BLOB, trained_version INTEGER
);
CREATE TABLE updates (sequence INTEGER PRIMARY KEY, offer BLOB NOT NULL);
"""


class Outbox:
    """The one open outbox of an agent. Used by one thread."""

    def __init__(self, folder: Path) -> None:
        """Open the outbox, or make one with a random identity; count this start.

        Updates whose payload is lost or altered are dropped, and the log says which. If nobody can
        tell then what was taken of this device, it has another identity from now on.

        Raises:
            Failure: the file is no outbox of this version, or cannot be used.
            OSError, sqlite3.Error: the disk is full.
        """
        self._folder = folder
        identity = f"INSERT INTO identity VALUES (x'{urandom(8).hex()}', 0, 0, NULL, NULL, NULL);"
        self._db = open_database(
            folder / "outbox.sqlite", "outbox", _SCHEMA + identity, _SCHEMA_VERSION
        )
        self._memories = Memories(self._db, folder)
        try:
            self.identity, self.boots = self._count_start()
            self._drop_damaged()
            if not self._memories.are_whole():
                self._begin_anew("its file is lost or altered")
            self._sweep()
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def offers(self) -> tuple[Offer, ...]:
        """The updates that are not judged yet, oldest first."""
        rows = self._db.execute("SELECT offer FROM updates ORDER BY sequence")
        offers = (decode(offer) for (offer,) in rows)
        return tuple(offer for offer in offers if isinstance(offer, Offer))

    def trained(self) -> tuple[bytes, int] | None:
        """Ledger and version of the newest update that was ever committed."""
        row: tuple[bytes | None, int] = self._db.execute(
            "SELECT trained_ledger, trained_version FROM identity"
        ).fetchone()
        return None if row[0] is None else (row[0], row[1])

    def past(self) -> Past:
        """The updates that were ever made here."""
        return read_past(self._db)

    def residual(self, *, noised: bool = False) -> Path | None:
        """Where the current residual lies, if there is one.

        Args:
            noised: only one that an update with noise left. What was rounded away of an update
                without noise would go out with the next.
        """
        (name,) = self._db.execute("SELECT residual FROM identity").fetchone()
        if name is None or (noised and not is_noised(self._db, int(name.partition(".")[0]))):
            return None
        return self._folder / str(name)

    def memory(self, header: Header) -> Path | None:
        """Where the memory lies that a training on this version begins with; None at first."""
        return self._memories.held(header)

    def next_memory_path(self) -> Path:
        """Where to write the memory that the next update leads to, with those of `next_paths`."""
        return self._memories.path(self.next_sequence())

    def next_paths(self, size: int = 0) -> tuple[Path, Path]:
        """Where to write the payload and the residual of the next update; nothing lies there.

        What a training left there that was given up is deleted, lest `commit` take it for the
        next one's.

        Args:
            size: bytes of both together, and of the memory.

        Raises:
            OSError: the disk has no room for them.
        """
        paths = self._paths(self.next_sequence())
        for path in (*paths, self.next_memory_path()):
            if path.exists():
                path.unlink()
        see_room_for(size + COMMIT_BYTES, self._folder)
        return paths

    def commit(self, header: Header, outcome: TrainingEnded, chunk_bytes: int) -> Offer:
        """Enter what lies at `next_paths`: payload, residual, memory and sequence number at once.

        Raises:
            sqlite3.Error: the disk is full; the files lie there still, for the next attempt.
        """
        sequence = self.next_sequence()
        payload, residual = self._paths(sequence)
        offer = Offer(
            outbox=self.identity,
            sequence=sequence,
            ledger=header.ledger,
            base_version=header.version,
            codec=header.plan.codec,
            payload=manifest_of_file(payload, chunk_bytes),
            examples=outcome.examples,
            steps=outcome.steps,
            train_s=outcome.train_s,
            metrics=outcome.metrics,
            seal=key_id(header.seal) if header.seal else b"",
        )
        former = {self.residual(), *self._memories.files()}
        with transaction(self._db):
            self._db.execute("INSERT INTO updates VALUES (?, ?)", (sequence, encode(offer)))
            self._memories.enter(sequence, header)
            if outcome.noised is not None:
                enter_noised(self._db, sequence, *outcome.noised)
            self._db.execute(
                "UPDATE identity SET next_sequence = ?, residual = ?, "
                "trained_ledger = ?, trained_version = ?",
                (
                    sequence + 1,
                    residual.name if residual.exists() else None,
                    header.ledger,
                    header.version,
                ),
            )
        self._unlink(former - {self.residual(), *self._memories.files()})
        return offer

    def chunk(self, offer: Offer, index: int) -> bytes:
        """Chunk `index` of an update's payload."""
        start, end = offer.payload.extent(index)
        with self._payload(offer.sequence).open("rb") as file:
            file.seek(start)
            return file.read(end - start)

    def forget(self, sequence: int, *, accepted: bool = False) -> None:
        """The coordinator has judged this update.

        Raises:
            sqlite3.Error: the disk is full; only the room of the payload was given back.
        """
        mark = JUDGED
        if self._memories.has_candidate(sequence):
            mark = ACCEPTED if accepted else NOT_ACCEPTED
        with suppress(FileNotFoundError):
            os.truncate(self._payload(sequence), mark)
        former = self._memories.files()
        with transaction(self._db):
            self._db.execute("DELETE FROM updates WHERE sequence = ?", (sequence,))
            self._memories.settle(sequence, accepted=accepted)
        self._unlink({self._payload(sequence), *(former - self._memories.files())})

    def drop_bare(self) -> None:
        """Forget the updates that wait here and were made without noise: they are not to leave."""
        bare = [o.sequence for o in self.offers() if not is_noised(self._db, o.sequence)]
        if bare:
            text = "updates dropped, they were made without noise"
            log.warning(text, extra=facts(sequences=",".join(map(str, bare))))
        self._drop(bare)

    def _count_start(self) -> tuple[bytes, int]:
        with transaction(self._db):
            self._db.execute(PAST_SCHEMA)
            self._db.execute(MEMORY_SCHEMA)
            self._db.execute("UPDATE identity SET boots = boots + 1")
            row = self._db.execute("SELECT outbox, boots FROM identity").fetchone()
        return row[0], row[1]

    def _payload(self, sequence: int) -> Path:
        return self._folder / f"{sequence}.update"

    def _paths(self, sequence: int) -> tuple[Path, Path]:
        return self._payload(sequence), self._folder / f"{sequence}.residual"

    def next_sequence(self) -> int:
        """The number of the next update."""
        (sequence,) = self._db.execute("SELECT next_sequence FROM identity").fetchone()
        return int(sequence)

    def _drop_damaged(self) -> None:
        """Forget updates whose payload does not have the digests that were offered."""
        damaged = []
        for sequence in [offer.sequence for offer in self.offers() if not self._is_whole(offer)]:
            leads_on, size = self._memories.has_candidate(sequence), self._size(sequence)
            if size in ((ACCEPTED, NOT_ACCEPTED) if leads_on else (JUDGED,)):
                # An earlier start heard the verdict, and had no room to note it.
                self.forget(sequence, accepted=size == ACCEPTED)
            else:
                damaged.append(sequence)
        if damaged:
            text = "updates dropped, their files are lost or altered"
            log.error(text, extra=facts(sequences=",".join(map(str, damaged))))
        self._drop(damaged)

    def _drop(self, sequences: Iterable[int]) -> None:
        """Forget updates of which nobody knows whether they were accepted."""
        for sequence in sequences:
            if self._memories.has_candidate(sequence):
                self._begin_anew("an update is dropped that may have been taken")
            self.forget(sequence)

    def _begin_anew(self, why: str) -> None:
        """Be another one to the coordinator, which nothing was taken of."""
        text = "nobody knows any more what was taken of this device: it begins anew"
        log.error(text, extra=facts(why=why))
        former, identity = self._memories.files(), urandom(8)
        with transaction(self._db):
            self._db.execute("UPDATE identity SET outbox = ?", (identity,))
            self._memories.drop()
        self.identity = identity
        self._unlink(former)

    def _size(self, sequence: int) -> int | None:
        path = self._payload(sequence)
        return path.stat().st_size if path.exists() else None

    def _unlink(self, paths: Iterable[Path | None]) -> None:
        for path in paths:
            if path is not None:
                path.unlink(missing_ok=True)

    def _is_whole(self, offer: Offer) -> bool:
        path, manifest = self._payload(offer.sequence), offer.payload
        try:
            return (
                path.stat().st_size == manifest.size
                and len(held_chunks(path, manifest)) == manifest.count
            )
        except FileNotFoundError:
            return False

    def _sweep(self) -> None:
        """Delete files of updates that were never committed, or are judged."""
        rows = self._db.execute("SELECT sequence FROM updates")
        named = {self.residual(), *self._memories.files()}
        named |= {self._payload(sequence) for (sequence,) in rows}
        for pattern in ("*.update", "*.residual", "*.memory", "*.part"):
            for path in self._folder.glob(pattern):
                if path not in named:
                    path.unlink()
