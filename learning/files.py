"""Files of a job are whole or absent: written aside, forced to disk, then renamed into place."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, data: bytes | memoryview) -> None:
    """Make `data` the content of `path`, durably; a crash leaves the old content or the new.

    Raises:
        OSError: the directory is missing, full or not writable.
    """
    write_file(path, lambda stream: _write_all(stream, data))


def write_file(path: Path, write: Callable[[BinaryIO], None]) -> None:
    """As `replace_file`, for what is better written piece by piece."""
    part = path.with_name(path.name + ".part")
    try:
        with part.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _write_all(stream: BinaryIO, data: bytes | memoryview) -> None:
    stream.write(data)
