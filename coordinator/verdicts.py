"""Verdicts become durable together: those that come while others are entered go in with the next.

A transaction costs what waiting for the disk costs, whatever is in it, and so does a file.
One device at a time is judged as soon as before; when hundreds deliver at once, a hundred verdicts
cost little more than one. The order is that of the laws: the files of what was accepted, then the
ledger, and only then does the core hear of it and send receipts.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from contextlib import suppress

from coordinator.aside import Aside
from coordinator.ledger import Ledger
from coordinator.spool import Spool
from coordinator.vocabulary import Judge, Judged, WriteChunk
from federation.files import is_storage_full
from federation.machine import StorageFull
from federation.shell import Shell

MOST_AT_ONCE = 256
BY_AND_BY_BYTES = 8 * 2**20


class Verdicts:
    """The verdicts that are not in the ledger yet. Used by the loop's thread."""

    def __init__(self, shell: Shell, ledger: Ledger, spool: Spool) -> None:
        self._shell = shell
        self._ledger = ledger
        self._spool = spool
        self._disk = Aside(shell)
        self._waiting: list[Judge] = []
        self._entering = False

    def enter(self, verdict: Judge) -> None:
        """Have a verdict entered: `Judged`, or `StorageFull` if the disk has no room."""
        self._waiting.append(verdict)
        if not self._entering:
            self._entering = True
            # Whatever the loop has to do already may bring more of them.
            self._shell.call(self._begin)

    def written(self, chunk: WriteChunk) -> None:
        """A chunk lies in the spool: of a large update the disk takes what has come by and by, so
        that there is little left to wait for when it is judged.
        """
        id, end = chunk.id, chunk.offset + len(chunk.data)
        if chunk.offset // BY_AND_BY_BYTES == end // BY_AND_BY_BYTES:
            return

        def work() -> None:
            with suppress(FileNotFoundError):  # it was given up meanwhile
                self._spool.sync([id])

        self._disk.do(chunk, work, lambda _: None)

    def close(self) -> None:
        """What waits is not entered any more: its devices offer it again."""
        self._disk.close()

    def _begin(self) -> None:
        batch, self._waiting = self._waiting[:MOST_AT_ONCE], self._waiting[MOST_AT_ONCE:]
        accepted = [verdict.id for verdict in batch if verdict.refusal is None]
        if not accepted:
            self._enter(batch, None)
            return

        def work() -> OSError | None:
            try:
                self._spool.sync(accepted)
            except OSError as error:
                return error
            return None

        self._disk.do(batch, work, lambda failure: self._enter(batch, failure))

    def _enter(self, batch: Sequence[Judge], failure: OSError | None) -> None:
        try:
            if failure is not None:
                raise failure
            self._ledger.judge(*batch)
        except (OSError, sqlite3.Error) as error:
            if not is_storage_full(error):
                raise
            for verdict in batch:
                self._shell.put(StorageFull(verdict))
        else:
            for verdict in batch:
                if verdict.refusal is not None:
                    self._spool.drop(verdict.id)
                self._shell.put(Judged(verdict))
        self._entering = bool(self._waiting)
        if self._waiting:
            self._shell.call(self._begin)
