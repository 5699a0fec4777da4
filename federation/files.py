"""Files are whole or absent: written aside, forced to disk, then renamed into place."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace_file(path: Path, data: bytes | memoryview, *, private: bool = False) -> None:
    """Make `data` the content of `path`, durably; a crash leaves the old content or the new.

    Args:
        private: nobody but its owner may read it, not even for a moment. The owner is that of the
            directory: root may write into that of a service, for the service.

    Raises:
        OSError: the directory is missing, full or not writable.
    """

    def write(stream: BinaryIO) -> None:
        stream.write(data)

    write_file(path, write, private=private)


def write_file(path: Path, write: Callable[[BinaryIO], None], *, private: bool = False) -> None:
    """As `replace_file`, for what is better written piece by piece."""
    part = path.with_name(path.name + ".part")
    mode, anew = 0o600 if private else 0o666, os.O_EXCL | os.O_NOFOLLOW
    part.unlink(missing_ok=True)
    try:
        # The directory may be another user's: nothing that lies there is followed or opened.
        with open(part, "wb", opener=lambda name, how: os.open(name, how | anew, mode)) as stream:
            write(stream)
            stream.flush()
            if private:
                give_to_owner(stream.fileno(), path.parent)
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def give_to_owner(descriptor: int, directory: Path) -> None:
    """What root makes in the directory of a service is that service's to read."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)


def is_storage_full(error: BaseException) -> bool:
    """Whether this is the error of a disk, or a quota, that has no room left."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if isinstance(error, sqlite3.Error):
        return getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL
    return False


_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_WRITE)


def sync_directory(directory: Path) -> None:
    """Make durable which files a directory holds."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
