"""The directory in which a role keeps what it must not forget: made, locked, and its own."""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

from config.failures import ExitCode, Failure
from config.logs import facts
from federation.files import is_storage_full

LOOK_AGAIN_S = 15.0

Made = TypeVar("Made")

log = logging.getLogger(__name__)


class StateDirectory:
    """A directory that one process at a time may use; the lock goes with the process."""

    def __init__(self, path: Path) -> None:
        """Make the directory where needed and lock it.

        Raises:
            Failure: it cannot be made or written, or another process uses it.
            OSError: the disk is full.
        """
        self.path = path
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            if is_storage_full(error):
                raise
            raise _unusable(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, str(os.getpid()).encode(), 0)
        except BlockingIOError:
            holder = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise Failure(
                ExitCode.LOCKED,
                f"the state directory {path} is in use by process {holder or 'unknown'}; "
                "stop it, or choose another state_dir",
            ) from None
        except OSError as error:
            os.close(self._lock)
            if is_storage_full(error):
                raise
            raise _unusable(path, error) from None

    def folder(self, name: str) -> Path:
        """A folder in the directory, made where needed."""
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder

    def close(self) -> None:
        """Let another process use the directory."""
        os.close(self._lock)


def is_locked(path: Path) -> bool:
    """Whether a process uses the directory now."""
    try:
        with (path / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass
    return False


def when_there_is_room(path: Path, make: Callable[[], Made]) -> Made:
    """What `make` makes in a state directory; while the disk is full it is tried again and again.

    A role that ended instead would be started again by its supervisor until that gives up, and
    then stay away when there is room again.
    """
    told = False
    while True:
        try:
            return make()
        except (OSError, sqlite3.Error) as error:
            if not is_storage_full(error):
                raise
        if not told:
            hint = f"free space in {path}"
            log.warning("storage full: the start waits for room", extra=facts(hint=hint))
            told = True
        time.sleep(LOOK_AGAIN_S)


@contextmanager
def in_state_directory(path: Path) -> Iterator[tuple[StateDirectory, ExitStack]]:
    """Work in a locked state directory; what is put on the stack is closed before it is unlocked.

    On a full disk it waits until there is room for the directory.

    Raises:
        Failure: it cannot be had, or a file in it fails while it is worked with.
    """
    with ExitStack() as closing:
        directory = when_there_is_room(path, lambda: StateDirectory(path))
        closing.callback(directory.close)
        try:
            yield directory, closing
        except BrokenPipeError:
            raise  # whoever read our output is gone: no fault of the directory
        except (OSError, sqlite3.Error) as error:
            raise Failure(ExitCode.CANNOT_WRITE, f"the state in {path} failed: {error}") from error


def _unusable(path: Path, error: OSError) -> Failure:
    reason = error.strerror or str(error)
    return Failure(ExitCode.CANNOT_WRITE, f"cannot use the state directory {path}: {reason}")
