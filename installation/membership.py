"""The step that gives a service its membership of a federation: keys that it alone may read.

They go to its state and not to its credentials, as a service renews its certificate itself.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from config.settings import AgentSettings, CoordinatorSettings, Settings
from installation.machine import Machine
from installation.steps import replace

FOLDER = "membership"
# What says who somebody is, and who was revoked: where both are the same, what was renewed
# meanwhile stays.
_IDENTITY = "credential"
_REVOKED = "least.json"


@dataclass(frozen=True, slots=True)
class CopyMembership:
    """A membership directory, copied to the state of a service."""

    source: Path
    path: str
    verb: ClassVar[str] = "copy"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """Where to, and from where; never what is in it."""
        return f"{self.path} from {self.source}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether this member is there; or the source is gone, and one is there."""
        there = machine.at(self.path)
        if not (there / _IDENTITY).is_file():
            return False
        if not (self.source / _IDENTITY).exists():
            return True
        return all(_same(self.source / name, there / name) for name in (_IDENTITY, _REVOKED))

    def do(self, machine: Machine) -> None:
        """Copy it beside, then put it in place."""
        path = machine.at(self.path)
        part = path.with_name(f"{path.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700)
        try:
            for file in sorted(self.source.iterdir()):
                if file.is_file():
                    replace(part / file.name, file.read_bytes(), 0o600)
            # The state may have its owner already, from an earlier start.
            _give(part, path.parent)
            if path.exists():
                shutil.rmtree(path)
            part.replace(path)
        except OSError:
            shutil.rmtree(part, ignore_errors=True)
            raise


def membership_of(settings: Settings) -> Path | None:
    """The membership directory that these settings mean, if there is one."""
    if not isinstance(settings, AgentSettings | CoordinatorSettings):
        return None
    if settings.membership is not None:
        return settings.membership.absolute()
    found = (settings.state_dir / FOLDER).absolute()
    return found if (found / _IDENTITY).is_file() else None


def _same(one: Path, other: Path) -> bool:
    if not one.exists() or not other.exists():
        return one.exists() == other.exists()
    return one.read_bytes() == other.read_bytes()


def _give(directory: Path, owned: Path) -> None:
    owner = owned.stat()
    for path in (directory, *directory.iterdir()):
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
