"""The file of the quarantine: who is in it, durably, and changed by hand while a coordinator runs.

`quarantine.json` in the state directory has the last word on each device that ever was in it. The
command and the running coordinator both write it, each by replacing it whole, and under a lock that
is held for a moment: on the directory, for a file made by root would not be the service's to open.
The coordinator looks before it handles an event, at most once a second: an offer of a device that
was put there more than a second ago is refused.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from math import inf
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from config.logs import facts
from coordinator.core import CoordinatorCore
from coordinator.vocabulary import CoordinatorEffect, CoordinatorEvent, Entry, QuarantineChanged
from federation.files import replace_file
from federation.machine import Moment

FILE = "quarantine.json"
FORMAT = 1
LOOK_EVERY_S = 1.0

log = logging.getLogger(__name__)

_UNREADABLE = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    AttributeError,
    OverflowError,
    RecursionError,
)


def read_entries(state_dir: Path) -> dict[str, Entry]:
    """The last word on each device that ever was in quarantine.

    Raises:
        Failure: the file is there, and cannot be read.
    """
    path = state_dir / FILE
    try:
        known = json.loads(path.read_text())
        if known["format"] != FORMAT:
            raise ValueError(f"format {known['format']} is not {FORMAT}")
        return {device: _entry(fields) for device, fields in known["devices"].items()}
    except FileNotFoundError:
        return {}
    except _UNREADABLE as error:
        reason = " ".join(str(error).split())[:200]
        raise Failure(
            ExitCode.CONFIG, f"{path} cannot be read ({reason}); mend it or remove it"
        ) from None


def enter(state_dir: Path, device: str, entry: Entry) -> None:
    """Write down the last word on a device, durably.

    Raises:
        Failure: what is written there already cannot be read.
        OSError: there is no room, or no right to write.
    """
    with _locked(state_dir):
        devices = {name: asdict(known) for name, known in read_entries(state_dir).items()}
        devices[device] = {**asdict(entry), "at": time.time()}
        text = json.dumps({"format": FORMAT, "devices": devices}, indent=1, sort_keys=True)
        # Root may say so, of a service that runs as another user: it is given to that one.
        replace_file(state_dir / FILE, text.encode(), private=True)


class Attentive:
    """A core that is told of changes by hand before anything else."""

    def __init__(self, core: CoordinatorCore, state_dir: Path) -> None:
        """Begin with a core that knows what the file says now."""
        self._core = core
        self._state_dir = state_dir
        self._seen = _stamp(state_dir)
        self._look_s = -inf

    @property
    def next_tick_s(self) -> float:
        """As the core has it: while nothing happens nobody has to know."""
        return self._core.next_tick_s

    def handle(self, event: CoordinatorEvent, at: Moment) -> list[CoordinatorEffect]:
        """Take one event, and what is news in the file before it."""
        entries = self._news(at)
        told = [] if entries is None else self._core.handle(QuarantineChanged(entries), at)
        return told + self._core.handle(event, at)

    def _news(self, at: Moment) -> dict[str, Entry] | None:
        if at.now_s < self._look_s:
            return None
        self._look_s = at.now_s + LOOK_EVERY_S
        stamp = _stamp(self._state_dir)
        if stamp == self._seen:
            return None
        self._seen = stamp
        try:
            return read_entries(self._state_dir)
        except Failure as failure:
            log.error("quarantine not taken up", extra=facts(reason=failure.message))
            return None


def _entry(fields: dict[str, Any]) -> Entry:
    return Entry(
        quarantined=bool(fields["quarantined"]),
        by=str(fields["by"]),
        reason=str(fields["reason"]),
        version=int(fields["version"]),
        at=float(fields["at"]),
    )


def _stamp(state_dir: Path) -> tuple[int, int, int] | None:
    try:
        stat = (state_dir / FILE).stat()
    except OSError:
        return None
    return stat.st_ctime_ns, stat.st_ino, stat.st_size  # the time goes with the owner, too


@contextmanager
def _locked(state_dir: Path) -> Iterator[None]:
    descriptor = os.open(state_dir, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
