"""The environments under /opt/flockwise: a venv each, numbered, of which `current` is used.

An environment is never altered but for packages that a further role needs; an upgrade makes another
beside it. What is in it stands in its own flockwise.json, which is written last: a directory
without it is one that was not finished.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import ClassVar

from config.failures import ExitCode, Failure
from installation.distribution import NAME, Source, Wheel, copy_source, read_wheel
from installation.machine import Machine, Result
from installation.places import CURRENT, ENVIRONMENTS, environment
from installation.steps import replace

_MANIFEST = "flockwise.json"
_NUMBERED = re.compile(r"environment-(\d+)")
# An SD card has no room for a second copy of each package.
_PIP = {"PIP_NO_CACHE_DIR": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}


@dataclass(frozen=True, slots=True)
class Manifest:
    """What is in an environment: a wheel, and the extras of it that are installed."""

    name: str
    version: str
    digest: str
    extras: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MakeEnvironment:
    """A new environment with Flockwise and what its roles need."""

    path: str
    python: str
    source: Source
    extras: tuple[str, ...]
    verb: ClassVar[str] = "make"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """Where, and from what."""
        return f"environment {self.path} by {self.python}: {_told(self.source, self.extras)}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is there and whole."""
        return read_manifest(machine, self.path) is not None

    def do(self, machine: Machine) -> None:
        """Make it; what cannot be finished is removed again."""
        try:
            wheel = begin(machine, self.path, self.python, self.source)
            finish(machine, self.path, wheel, self.extras)
        except BaseException:
            discard(machine, self.path)
            raise


@dataclass(frozen=True, slots=True)
class AddToEnvironment:
    """More packages for the environment that is there: those of a further role."""

    path: str
    extras: tuple[str, ...]
    verb: ClassVar[str] = "add"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """What, and where."""
        packages = f"what {' and '.join(self.extras)} needs" if self.extras else NAME
        return f"{packages} in environment {self.path}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether all of it is there."""
        manifest = read_manifest(machine, self.path)
        return manifest is not None and set(self.extras) <= set(manifest.extras)

    def do(self, machine: Machine) -> None:
        """Have pip add it."""
        manifest = read_manifest(machine, self.path)
        assert manifest is not None, f"{self.path} is gone"
        extras = tuple(sorted({*manifest.extras, *self.extras}))
        requirement = f"{manifest.name}[{','.join(extras)}]=={manifest.version}"
        _pip(machine, self.path, "install", "--quiet", requirement)
        _write_manifest(
            machine, self.path, Manifest(manifest.name, manifest.version, manifest.digest, extras)
        )


def begin(machine: Machine, path: str, python: str, source: Source) -> Wheel:
    """Make an environment with nothing in it but the wheel that is to be installed."""
    discard(machine, path)
    place = machine.at(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    made = machine.run((python, "-m", "venv", str(place)))
    if made.status != 0:
        raise Failure(ExitCode.UNAVAILABLE, f"{python} cannot make {path}: {made.last_words}")
    wheels = place / "wheel"
    wheels.mkdir()
    if source.kind == "wheel":
        shutil.copy(source.text, wheels)
    else:
        text = source.text
        if source.kind == "directory":
            text = str(place / "source")
            copy_source(source, Path(text))
        _pip(machine, path, "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheels), text)
        shutil.rmtree(place / "source", ignore_errors=True)
    return read_wheel(next(wheels.iterdir()))


def finish(machine: Machine, path: str, wheel: Wheel, extras: tuple[str, ...]) -> None:
    """Install the wheel and what the roles need, and say that the environment is whole."""
    wanted = f"[{','.join(extras)}]" if extras else ""
    _pip(machine, path, "install", "--quiet", f"{wheel.path}{wanted}")
    _write_manifest(machine, path, Manifest(wheel.name, wheel.version, wheel.digest, extras))


def discard(machine: Machine, path: str) -> None:
    """Remove an environment, whole or not."""
    with suppress(FileNotFoundError):
        shutil.rmtree(machine.at(path))


def read_manifest(machine: Machine, path: str) -> Manifest | None:
    """What is in an environment; None if it is not there or not whole."""
    try:
        told = json.loads((machine.at(path) / _MANIFEST).read_text())
        return Manifest(told["name"], told["version"], told["digest"], tuple(told["extras"]))
    except (OSError, ValueError, KeyError):
        return None


def current(machine: Machine) -> str | None:
    """The environment that is in use, if there is one."""
    link = machine.at(CURRENT)
    if not link.is_symlink():
        return None
    path = os.readlink(link)  # noqa: PTH115
    return path if read_manifest(machine, path) is not None else None


def environments(machine: Machine) -> list[str]:
    """All that are there, whole or not, the oldest first."""
    place = machine.at(ENVIRONMENTS)
    names = [path.name for path in place.iterdir()] if place.is_dir() else []
    numbers = sorted(int(found[1]) for name in names if (found := _NUMBERED.fullmatch(name)))
    return [environment(number) for number in numbers]


def next_environment(machine: Machine) -> str:
    """Where the next one goes; one that was not finished makes room for it."""
    whole = [path for path in environments(machine) if read_manifest(machine, path) is not None]
    return environment(int(whole[-1].rpartition("-")[2]) + 1 if whole else 1)


def _pip(machine: Machine, path: str, *words: str) -> Result:
    python = str(machine.at(path) / "bin/python")
    environ = {name: value for name, value in _PIP.items() if name not in os.environ}
    result = machine.run((python, "-m", "pip", *words), environ=environ)
    if result.status != 0:
        raise Failure(ExitCode.UNAVAILABLE, f"pip {words[0]} failed: {result.last_words}")
    return result


def _write_manifest(machine: Machine, path: str, manifest: Manifest) -> None:
    text = json.dumps(asdict(manifest)) + "\n"
    replace(machine.at(path) / _MANIFEST, text.encode(), 0o644)


def _told(source: Source, extras: Sequence[str]) -> str:
    return f"{source}, for {' and '.join(extras)}" if extras else str(source)
