"""A membership directory is written whole or not at all: aside, forced to disk, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from config.failures import ExitCode, Failure
from federation.files import sync_directory


def write_private(path: Path, data: bytes) -> None:
    """Make `data` the content of a file that nobody else may read, durably; old or new, never half.

    The directory may be another user's: nothing that lies there is followed or opened.

    Raises:
        OSError: the directory is missing, full or not writable.
    """
    part = path.with_name(path.name + ".part")
    part.unlink(missing_ok=True)
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _give_to_owner(stream.fileno(), path.parent)
            os.fsync(stream.fileno())
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def make_private_directory(path: Path) -> None:
    """A directory that nobody else may look into; its parents are made as usual."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        _give_to_owner(descriptor, path.parent)
    finally:
        os.close(descriptor)


def write_membership(directory: Path, files: Mapping[str, bytes]) -> None:
    """Make these the files of a membership, in the place of one that may be there.

    Raises:
        Failure: the directory cannot be written.
    """
    aside, former = _aside(directory), directory.with_name(directory.name + ".former")
    part = directory.with_name(directory.name + ".part")
    try:
        settle(directory)
        for left in (part, former):
            shutil.rmtree(left, ignore_errors=True)
        make_private_directory(part)
        for name, data in files.items():
            write_private(part / name, data)
        part.replace(aside)  # from here on it is whole
        sync_directory(directory.parent)
        if directory.exists():
            directory.replace(former)
        settle(directory)
        shutil.rmtree(former, ignore_errors=True)
    except OSError as error:
        message = f"membership: cannot write {directory} ({error.strerror})"
        raise Failure(ExitCode.CANNOT_WRITE, message) from error


def settle(directory: Path) -> None:
    """Finish what a crash has interrupted: a whole membership that waits for its place takes it."""
    aside = _aside(directory)
    if not aside.exists():
        return
    if directory.exists():
        shutil.rmtree(directory)
    aside.replace(directory)
    sync_directory(directory.parent)


def _aside(directory: Path) -> Path:
    return directory.with_name(directory.name + ".new")


def _give_to_owner(descriptor: int, directory: Path) -> None:
    """What root makes in the directory of a service is that service's to read."""
    owner = directory.stat()
    if os.geteuid() == 0 and owner.st_uid != 0:
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
