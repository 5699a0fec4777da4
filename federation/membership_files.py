"""A membership directory is written whole or not at all: aside, forced to disk, then renamed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from config.failures import ExitCode, Failure
from federation.files import give_to_owner, replace_file, sync_directory


def make_private_directory(path: Path) -> None:
    """A directory that nobody else may look into; its parents are made as usual."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.mkdir(mode=0o700)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        give_to_owner(descriptor, path.parent)
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
            replace_file(part / name, data, private=True)
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
