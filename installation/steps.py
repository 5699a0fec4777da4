"""The steps of a plan that are about files: each knows what it does, and whether it is done.

A step is data. `is_done` looks and changes nothing; `do` changes, and leaves nothing half done
that would be taken for done.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Protocol, TypeAlias

from config.failures import ExitCode, Failure
from installation.machine import Machine


class Step(Protocol):
    """One thing to do to a machine."""

    @property
    def verb(self) -> str:
        """What is done, as in "write"; `PAST` has the other form."""

    @property
    def what(self) -> str:
        """What it is done to."""

    @property
    def shown(self) -> str:
        """More for a dry run to show, of many lines; or nothing."""

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it need not be done; `changed` tells whether a step before it was."""

    def do(self, machine: Machine) -> None:
        """Do it, or raise Failure or OSError."""


Plan: TypeAlias = tuple[Step, ...]

PAST = {
    "add": "added",
    "copy": "copied",
    "disable": "disabled",
    "enable": "enabled",
    "encrypt": "encrypted",
    "link": "linked",
    "make": "made",
    "reload": "reloaded",
    "remove": "removed",
    "start": "started",
    "stop": "stopped",
    "write": "wrote",
}


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """A directory with its mode; what is in it stays."""

    path: str
    mode: int
    verb: ClassVar[str] = "make"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The directory."""
        return f"directory {self.path}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is there; who changed its mode had a reason."""
        return machine.at(self.path).is_dir()

    def do(self, machine: Machine) -> None:
        """Make it, and those above it."""
        path = machine.at(self.path)
        path.mkdir(parents=True)
        path.chmod(self.mode)


@dataclass(frozen=True, slots=True)
class WriteFile:
    """A file with this content and mode; one that says something else is kept beside it.

    Attributes:
        keeps: whether what was there is kept, as `<path>.old`.
    """

    path: str
    content: str
    mode: int = 0o644
    keeps: bool = False
    verb: ClassVar[str] = "write"

    @property
    def what(self) -> str:
        """The file."""
        return self.path

    @property
    def shown(self) -> str:
        """Its whole text."""
        return self.content

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is there, word for word."""
        path = machine.at(self.path)
        return path.is_file() and path.read_bytes() == self.content.encode()

    def do(self, machine: Machine) -> None:
        """Write it beside, then in its place."""
        path = machine.at(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        if self.keeps and path.is_file():
            shutil.copy2(path, path.with_name(f"{path.name}.old"))
        replace(path, self.content.encode(), self.mode)


@dataclass(frozen=True, slots=True)
class CopyFile:
    """A file of somebody's, copied to where a service may read it."""

    source: Path
    path: str
    mode: int = 0o644
    verb: ClassVar[str] = "copy"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """Where to, and from where."""
        return f"{self.path} from {self.source}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether the same bytes are there; or the source is gone, and what was copied is there."""
        path = machine.at(self.path)
        if not path.is_file():
            return False
        return not self.source.exists() or filecmp.cmp(self.source, path, shallow=False)

    def do(self, machine: Machine) -> None:
        """Copy it beside, then in its place."""
        path = machine.at(self.path)
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        try:
            # Where a service may write, nothing that lies in the way is followed.
            with self.source.open("rb") as source, os.fdopen(_new(part, self.mode), "wb") as copy:
                shutil.copyfileobj(source, copy)
                os.fchmod(copy.fileno(), self.mode)
        except OSError:
            part.unlink(missing_ok=True)
            raise
        _settle(part, path)


@dataclass(frozen=True, slots=True)
class Link:
    """A symbolic link, switched at once.

    Attributes:
        ours: a link or file that points elsewhere is another's, and stays.
    """

    path: str
    target: str
    ours: bool = True
    verb: ClassVar[str] = "link"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The link, and what it points to."""
        return f"{self.path} to {self.target}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it points there, or is not ours to change."""
        path = machine.at(self.path)
        if not self.ours and (path.exists() or path.is_symlink()):
            return True
        return path.is_symlink() and os.readlink(path) == self.target  # noqa: PTH115

    def do(self, machine: Machine) -> None:
        """Make it beside, then put it in place."""
        path = machine.at(self.path)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.part")
        part.unlink(missing_ok=True)
        part.symlink_to(self.target)
        _settle(part, path)


@dataclass(frozen=True, slots=True)
class Remove:
    """A file, a link or a whole directory that is to be gone.

    Attributes:
        if_empty: a directory that others may use: it goes when nothing is left in it.
        if_link_to: a link goes only if it points there.
    """

    path: str
    if_empty: bool = False
    if_link_to: str | None = None
    verb: ClassVar[str] = "remove"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The path."""
        return self.path

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is gone, or has to stay."""
        path = machine.at(self.path)
        if not path.exists() and not path.is_symlink():
            return True
        if self.if_link_to is not None:
            points_there = path.is_symlink() and os.readlink(path) == self.if_link_to  # noqa: PTH115
            return not points_there
        return self.if_empty and any(path.iterdir())

    def do(self, machine: Machine) -> None:
        """Remove it and what is in it."""
        path = machine.at(self.path)
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path)


def replace(path: Path, content: bytes, mode: int) -> None:
    """Put a file in place as a whole, with its mode from the first byte on."""
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    with os.fdopen(_new(part, mode), "wb") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)
    _settle(part, path)


def cannot_write(error: OSError) -> Failure:
    """The failure for what a disk, or its rights, did not allow."""
    return Failure(ExitCode.CANNOT_WRITE, f"cannot write {error.filename}: {error.strerror}")


def _new(path: Path, mode: int) -> int:
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)


def _settle(part: Path, path: Path) -> None:
    """Have `part` take the place of `path`, on disk too: a device may lose power at any moment."""
    if not part.is_symlink():
        with part.open("rb") as file:
            os.fsync(file.fileno())
    part.replace(path)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
