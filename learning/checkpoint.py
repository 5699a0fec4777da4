"""A training in progress, on disk every so many seconds: a power cut costs minutes, not the epoch.

What is saved is enough to go on as if nothing had happened: the bytes that come of it are the same.
The file is an `.npz` without pickle, replaced atomically. One that is damaged, or about another
training, counts as none. It only assists: a disk that is full does not end the training.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import cached_property
from math import inf
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt

from federation.files import write_file
from learning.ending import ENDING

log = logging.getLogger(__name__)

Arrays: TypeAlias = dict[str, npt.NDArray[Any]]

_ABOUT = "about"
_SPENT = "spent_s"


class Checkpoint:
    """The one file of one training.

    Attributes:
        spent_s: seconds that earlier starts of this training took, up to what they saved.
    """

    def __init__(
        self, path: Path | None, every_s: float = inf, about: Callable[[], str] = lambda: ""
    ) -> None:
        """Look whether there is something to go on with.

        Args:
            path: where the file is; None saves nothing.
            every_s: seconds between two writes.
            about: tells what training this is; another one's file is not taken up. It is asked
                only where there is a file, or is to be one: most trainings are over before.
        """
        self._path = path
        self._every_s = every_s
        self._tell = about
        self._warned = False
        self._began_s = self._saved_s = time.monotonic()
        self._found = self._read()
        spent = self._found.pop(_SPENT, None) if self._found else None
        self.spent_s = 0.0 if spent is None else float(spent)

    def resume(self) -> Arrays | None:
        """What an earlier start saved; None to begin at the beginning."""
        return self._found

    def offer(self, make: Callable[[], Arrays]) -> None:
        """Save what `make` gives, if it is time; a disk that cannot take it is told of once.

        A process that was asked to end saves at once, and ends.
        """
        if self._path is None:
            return
        now_s = time.monotonic()
        if now_s - self._saved_s < self._every_s and not ENDING.is_set():
            return
        spent_s = np.float64(self.spent_s + now_s - self._began_s)
        arrays: dict[str, Any] = {**make(), _ABOUT: self._about, _SPENT: np.asarray(spent_s)}

        def write(stream: BinaryIO) -> None:
            np.savez(stream, **arrays)

        try:
            write_file(self._path, write)
        except OSError as error:
            if not self._warned:
                log.warning(
                    "the training goes on unsaved: %s: %s", self._path, error.strerror or error
                )
            self._warned = True
        if ENDING.is_set():
            os._exit(0)  # nobody waits for more, and files are whole or absent
        # From the end of the write, so that a slow disk is not written to all the time.
        self._saved_s = time.monotonic()

    def discard(self) -> bool:
        """Give the room on the disk back; whether there was any."""
        if self._path is None or not self._path.exists():
            return False
        self._path.unlink()
        return True

    @cached_property
    def _about(self) -> npt.NDArray[np.uint8]:
        return np.frombuffer(self._tell().encode(), dtype=np.uint8)

    def _read(self) -> Arrays | None:
        if self._path is None:
            return None
        try:
            # Opened here, as numpy leaves a file open that turns out to be damaged.
            with self._path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays: Arrays = {name: file[name] for name in file.files}
        except Exception:  # what zip files, zlib and numpy raise of damaged bytes is of many kinds
            return None
        about = arrays.pop(_ABOUT, None)
        if about is None or not np.array_equal(about, self._about):
            return None
        return arrays
