"""The ledger: one SQLite file that knows every update and every version, and who is in which.

What is in it has happened; what is not has not. Each method is one transaction, on disk when it
returns (WAL, synchronous=FULL). That an update enters once, and one version, are constraints of
the tables, so not even a defect of the core could apply it twice.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator
from os import urandom
from pathlib import Path

import msgpack

from config.settings import Aggregation
from coordinator.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION
from coordinator.vocabulary import Accepted, Contribution, Judge, Mark, UpdateId
from federation.database import open_database, transaction
from federation.layout import Layout

# Of refused offers the last ones are kept, and how many there were.
REFUSED_KEPT = 1000


class Ledger:
    """The one open ledger of a coordinator. Used by one thread."""

    def __init__(self, path: Path) -> None:
        """Open the ledger, or make one with a random identity; count this start.

        Raises:
            Failure: the file is no ledger of this version, or cannot be used.
        """
        identity = f"INSERT INTO identity VALUES (x'{urandom(8).hex()}', 0);"
        self._db = open_database(path, "ledger", SCHEMA + identity, SCHEMA_VERSION, MIGRATIONS)
        try:
            with transaction(self._db):
                self._db.execute("UPDATE identity SET boots = boots + 1")
                row = self._db.execute("SELECT ledger, boots FROM identity").fetchone()
        except BaseException:
            self._db.close()
            raise
        self.identity: bytes = row[0]
        self.boots: int = row[1]

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def judge(self, *verdicts: Judge) -> None:
        """These updates were accepted, or refused: all are in the ledger, or none is."""
        with transaction(self._db):
            for verdict in verdicts:
                self._enter(verdict)

    def is_accepted(self, id: UpdateId) -> bool:
        """Whether an update was accepted, and not set aside since."""
        query = (
            "SELECT 1 FROM updates WHERE device = ? AND outbox = ? AND sequence = ? "
            "AND refusal IS NULL AND NOT aside"
        )
        row = self._db.execute(query, (id.device, id.outbox, id.sequence)).fetchone()
        return row is not None

    def add_version(
        self,
        version: int,
        contributions: Iterable[Contribution],
        rule: Aggregation,
        outliers: Collection[UpdateId] = (),
    ) -> None:
        """A version was checkpointed, made of these updates in this order, by this rule.

        Args:
            outliers: those of the updates that the rule told from the others.
        """
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO versions VALUES (?, ?, ?, NULL, NULL)",
                (version, time.time(), rule.model_dump_json()),
            )
            for position, part in enumerate(contributions):
                self._db.execute(
                    "INSERT INTO contributions SELECT entry, ?, ?, ?, ?, ?, ?, ?, ? FROM updates "
                    "WHERE device = ? AND outbox = ? AND sequence = ? AND refusal IS NULL",
                    (
                        version,
                        position,
                        part.staleness,
                        part.scale,
                        part.weight,
                        part.clip,
                        part.id in outliers,
                        part.known,
                        part.id.device,
                        part.id.outbox,
                        part.id.sequence,
                    ),
                )
                if self._db.execute("SELECT changes()").fetchone() != (1,):
                    raise sqlite3.IntegrityError(f"{part.id} is not an accepted update")

    def add_metrics(self, version: int, metrics: dict[str, float]) -> None:
        """A version was tested."""
        with transaction(self._db):
            self._db.execute(
                "UPDATE versions SET metrics = ? WHERE version = ?",
                (msgpack.packb(metrics), version),
            )

    def begin(self, task: str, name: str, layout: Layout, *, memory: bool = False) -> None:
        """Version 0 was checkpointed: this is the model that the ledger is about, for ever.

        Args:
            memory: whether devices remember what was taken of them; that is for ever, too.
        """
        with transaction(self._db):
            wire = msgpack.packb(layout.to_wire())
            self._db.execute("INSERT INTO model VALUES (?, ?, ?, ?)", (task, name, wire, memory))
            self._insert_root(0, "the first version")

    def adopt(self, version: int, note: str) -> None:
        """A version was checkpointed that is made of no updates; `note` says where it is from."""
        with transaction(self._db):
            self._insert_root(version, note)

    def recipe(self, version: int) -> tuple[Aggregation, tuple[Contribution, ...]] | None:
        """The rule and the contributions that made a version, in order; None if nothing did."""
        (rule,) = self._db.execute(
            "SELECT rule FROM versions WHERE version = ?", (version,)
        ).fetchone()
        if rule is None:
            return None
        rows = self._db.execute(
            "SELECT device, outbox, sequence, base_version, staleness, scale, weight, clip, known "
            "FROM contributions JOIN updates USING (entry) WHERE version = ? ORDER BY position",
            (version,),
        )
        parts = tuple(Contribution(UpdateId(d, o, s), *rest) for d, o, s, *rest in rows)
        return Aggregation.model_validate_json(rule), parts

    def model(self) -> tuple[str, str, Layout] | None:
        """Task, model name and layout; None in a new ledger."""
        row = self._db.execute("SELECT task, name, layout FROM model").fetchone()
        return row and (row[0], row[1], Layout.from_wire(msgpack.unpackb(row[2])))

    def has_memory(self) -> bool:
        """Whether devices remember what was taken of them; False in a new ledger."""
        return self._db.execute("SELECT 1 FROM model WHERE memory").fetchone() is not None

    def holders(self) -> frozenset[tuple[str, bytes]]:
        """Device and outbox of the updates that devices remember, as far as versions have them."""
        return frozenset(
            self._db.execute(
                "SELECT DISTINCT device, outbox FROM contributions JOIN updates USING (entry) "
                "WHERE known IS NOT NULL"
            )
        )

    def contributors(self, version: int) -> tuple[UpdateId, ...]:
        """The updates that a version is made of, in order."""
        rows = self._db.execute(
            "SELECT device, outbox, sequence FROM contributions JOIN updates USING (entry) "
            "WHERE version = ? ORDER BY position",
            (version,),
        )
        return tuple(UpdateId(*row) for row in rows)

    def codecs(self, ids: Iterable[UpdateId]) -> dict[UpdateId, str]:
        """How each of these updates is encoded."""
        query = "SELECT codec FROM updates WHERE device = ? AND outbox = ? AND sequence = ?"
        return {
            id: self._db.execute(query, (id.device, id.outbox, id.sequence)).fetchone()[0]
            for id in ids
        }

    def is_tested(self, version: int) -> bool:
        """Whether a version has been tested."""
        query = "SELECT metrics IS NOT NULL FROM versions WHERE version = ?"
        return bool(self._db.execute(query, (version,)).fetchone()[0])

    def devices(self) -> frozenset[str]:
        """The devices that an update of was ever judged."""
        return frozenset(d for (d,) in self._db.execute("SELECT DISTINCT device FROM updates"))

    def newest_version(self) -> int | None:
        """The newest version; None in a new ledger."""
        row = self._db.execute("SELECT max(version) FROM versions").fetchone()
        newest: int | None = row[0]
        return newest

    def founded(self) -> int:
        """When version 0 was made, in whole seconds since 1970."""
        (made_at,) = self._db.execute("SELECT made_at FROM versions WHERE version = 0").fetchone()
        return int(made_at)

    def settled(self) -> dict[tuple[str, bytes], int]:
        """For each outbox of each device the greatest sequence number that was accepted."""
        rows = self._db.execute(
            "SELECT device, outbox, max(sequence) FROM updates WHERE refusal IS NULL "
            "GROUP BY device, outbox"
        )
        return {(device, outbox): sequence for device, outbox, sequence in rows}

    def buffer(self) -> tuple[Accepted, ...]:
        """Accepted updates that wait for their version, in the order of acceptance."""
        rows = self._db.execute(
            "SELECT device, outbox, sequence, base_version, examples, norm FROM updates "
            "WHERE refusal IS NULL AND NOT aside "
            "AND entry NOT IN (SELECT entry FROM contributions) ORDER BY entry"
        )
        return tuple(Accepted(UpdateId(d, o, s), *rest) for d, o, s, *rest in rows)

    def set_aside(self, ids: Iterable[UpdateId]) -> None:
        """These accepted updates will be in no version: their devices are in quarantine."""
        with transaction(self._db):
            for id in ids:
                self._db.execute(
                    "UPDATE updates SET aside = 1 WHERE device = ? AND outbox = ? "
                    "AND sequence = ? AND refusal IS NULL "
                    "AND entry NOT IN (SELECT entry FROM contributions)",
                    (id.device, id.outbox, id.sequence),
                )

    def marks(self, versions: int) -> Iterator[Mark]:
        """What the last versions tell of each device in them, oldest first."""
        rows = self._db.execute(
            "SELECT device, version, clip, outlier FROM contributions JOIN updates USING (entry) "
            "WHERE version > (SELECT max(version) FROM versions) - ? ORDER BY version, position",
            (versions,),
        )
        return (Mark(device, version, clip, bool(out)) for device, version, clip, out in rows)

    def norms(self, newest: int) -> tuple[tuple[str, float], ...]:
        """The last devices that an update was accepted of, each with the norm of its last one
        that was not zero, oldest first.

        Args:
            newest: of how many devices.
        """
        rows = self._db.execute(
            "SELECT device, norm, max(entry) AS last FROM updates "
            "WHERE refusal IS NULL AND norm > 0 GROUP BY device ORDER BY last DESC LIMIT ?",
            (newest,),
        ).fetchall()
        return tuple((device, norm) for device, norm, _ in reversed(rows))

    def contributed(self) -> dict[str, int]:
        """The last version that each device is in."""
        rows = self._db.execute(
            "SELECT device, max(version) FROM contributions JOIN updates USING (entry) "
            "GROUP BY device"
        )
        return dict(rows.fetchall())

    def _enter(self, verdict: Judge) -> None:
        id, offer = verdict.id, verdict.offer
        accepted = verdict.refusal is None
        name = (id.device, id.outbox, id.sequence)
        # An update that was refused may be offered again, if the receipt was lost.
        self._db.execute(
            "DELETE FROM updates WHERE device = ? AND outbox = ? AND sequence = ? "
            "AND refusal IS NOT NULL",
            name,
        )
        self._db.execute(
            f"INSERT INTO updates VALUES (NULL, {', '.join('?' * 14)}, 0)",
            (
                *name,
                *(offer.base_version, offer.examples, offer.steps, offer.train_s),
                *(offer.codec, offer.payload.size),
                None if accepted else str(verdict.refusal),
                None if accepted else verdict.detail,
                verdict.norm if accepted else None,
                msgpack.packb(offer.metrics),
                time.time(),
            ),
        )
        if not accepted:
            self._count_refusal(id.device, str(verdict.refusal), verdict.detail)

    def _count_refusal(self, device: str, reason: str, detail: str) -> None:
        self._db.execute(
            "INSERT INTO refusals VALUES (?, ?, 1, ?) ON CONFLICT DO UPDATE "
            "SET times = times + 1, detail = excluded.detail",
            (device, reason, detail),
        )
        self._db.execute(
            "DELETE FROM updates WHERE entry IN (SELECT entry FROM updates "
            "WHERE refusal IS NOT NULL AND device = ? ORDER BY entry DESC LIMIT -1 OFFSET ?)",
            (device, REFUSED_KEPT),
        )

    def _insert_root(self, version: int, note: str) -> None:
        self._db.execute(
            "INSERT INTO versions VALUES (?, ?, NULL, ?, NULL)", (version, time.time(), note)
        )
