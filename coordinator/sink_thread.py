"""A sink in a thread of its own behind a bounded queue: whatever it does, nobody waits for it.

Neither its start, nor its network, nor a fault of it, holds a federation up: the first fault is
told once and ends the sink.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

from config.failures import first_line
from config.logs import facts
from coordinator.reporting import Row

log = logging.getLogger(__name__)

MAX_WAITING = 10_000
CLOSE_S = 20.0


class SinkThread:
    """Hands rows to a function that takes them one after the other, until there are no more."""

    def __init__(
        self,
        name: str,
        log_rows: Callable[[Iterator[Row]], None],
        *,
        missed: bool = False,
        close_s: float | None = None,
    ) -> None:
        """Begin.

        Args:
            name: what is said of it.
            missed: whether somebody is to be warned if its library is not installed.
            close_s: how long it may take to end (None: as long as a coordinator can spare).
        """
        self._name = name
        self._close_s = close_s
        self._missing = logging.WARNING if missed else logging.INFO
        self._log_rows = log_rows
        self._rows: queue.Queue[Row | None] = queue.Queue(MAX_WAITING)
        self._alive = True
        self._dropped = 0
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def write(self, row: Row) -> None:
        """Take one row; dropped if the function has failed or is far behind."""
        if self._alive:
            try:
                self._rows.put_nowait(row)
            except queue.Full:
                self._dropped += 1
                if self._dropped == 1:
                    text = "%s is far behind, a row was dropped; the JSONL file has it"
                    log.warning(text, self._name)

    def close(self) -> None:
        """Let it finish, for a while."""
        if self._dropped > 1:
            text = "%s was far behind, %d rows were dropped; the JSONL file has them"
            log.warning(text, self._name, self._dropped)
        if not self._alive:
            return
        close_s = CLOSE_S if self._close_s is None else self._close_s
        end_s = time.monotonic() + close_s
        with suppress(queue.Full):
            self._rows.put(None, timeout=close_s)
            self._thread.join(max(0.0, end_s - time.monotonic()))
        if self._thread.is_alive():
            text = "%s did not end in %g s, its last rows may be lost; the JSONL file has them"
            log.warning(text, self._name, close_s)

    def _run(self) -> None:
        try:
            self._log_rows(self._next_rows())
        except ImportError:
            log.log(self._missing, "%s is not installed; reports go on without it", self._name)
        except Exception as error:  # whatever it fails with, the federation goes on
            reason = first_line(error)
            text = f"{self._name} failed; reports go on in the JSONL file"
            log.warning(text, extra=facts(why=reason))
        finally:
            self._alive = False

    def _next_rows(self) -> Iterator[Row]:
        while (row := self._rows.get()) is not None:
            yield row
