"""How a running role is doing, in a small file that others read: written when it has changed.

Under a service manager the file lies in the runtime directory, which is memory, and the state
directory has a link to it; else it lies there itself, and is written less often, for the sake of SD
cards. It is no record of anything: what has to survive is in the outbox and the ledger.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from pathlib import Path
from typing import Any

STATUS_FILE = "status.json"
IN_MEMORY_EVERY_S = 1.0
ON_DISK_EVERY_S = 10.0


class StatusBoard:
    """The one file of one role."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str] = os.environ) -> None:
        runtime = environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
        self._path = (Path(runtime) if runtime else state_dir) / STATUS_FILE
        self._every_s = IN_MEMORY_EVERY_S if runtime else ON_DISK_EVERY_S
        if runtime:
            _link(state_dir / STATUS_FILE, self._path)
        self._shown: dict[str, Any] = {}
        self._shown_s = -inf
        self._is_old = False

    @property
    def due_s(self) -> float:
        """When to write what has changed, on the monotonic clock; infinity if nothing has."""
        return self._shown_s + self._every_s if self._is_old else inf

    def touch(self) -> None:
        """Something happened: the file may be old."""
        self._is_old = True

    def show(self, look: Callable[[], dict[str, Any]], *, now: bool = False) -> dict[str, Any]:
        """Write what `look` gives if it is time, or asked for `now`; what the file shows."""
        if not now and time.monotonic() < self.due_s:
            return self._shown
        self._is_old, self._shown_s = False, time.monotonic()
        seen = look()
        if now or _without_counters(seen) != _without_counters(self._shown):
            self._shown = seen
            self._write({**seen, "pid": os.getpid(), "told_at": time.time()})
        return seen

    def _write(self, told: dict[str, Any]) -> None:
        part = self._path.with_name(f"{STATUS_FILE}.part")
        # Not forced to disk, and not missed where there is no room for it.
        with suppress(OSError):
            part.write_text(json.dumps(told))
            part.replace(self._path)


def _without_counters(shown: dict[str, Any]) -> dict[str, Any]:
    """What is worth a write: each sign of life moves the counters of bytes."""
    return {name: value for name, value in shown.items() if not name.endswith("_bytes")}


def _link(path: Path, target: Path) -> None:
    with suppress(OSError):
        if path.is_symlink() and path.readlink() == target:
            return
        path.unlink(missing_ok=True)
        path.symlink_to(target)


def read_status(state_dir: Path) -> dict[str, Any] | None:
    """What a role last showed, with `running`, whether it still runs; None if it shows nothing.

    Its process id is looked for, so another process may be taken for it after a reboot only if
    the file has survived that.
    """
    try:
        told = json.loads((state_dir / STATUS_FILE).read_text())
        pid, told_at = int(told["pid"]), float(told["told_at"])
        if not (
            isinstance(told.get("summary", ""), str) and 0 < pid < 2**31 and 0 <= told_at < 2**35
        ):
            return None
        return {**told, "running": _is_alive(pid)}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
