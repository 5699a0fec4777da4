"""What is installed: a wheel, a directory with the source, or a requirement that pip finds."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys
import zipfile
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

from config.failures import ExitCode, Failure
from installation.places import ENVIRONMENTS

NAME = "flockwise"
_HOME = Path(__file__).resolve().parent.parent
_REQUIREMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[^]]*\])?\s*([=<>!~@].*)?")
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "wandb", "data", "tests", "docs"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a wheel comes from; `text` is a path or a requirement."""

    kind: Literal["wheel", "directory", "requirement"]
    text: str

    def __str__(self) -> str:
        return f"source in {self.text}" if self.kind == "directory" else self.text


def read_source(text: str) -> Source:
    """Tell what `--from` names; raises Failure if it is nothing that pip could install."""
    path = Path(text).expanduser().absolute()
    if path.suffix == ".whl" and path.is_file():
        return Source("wheel", str(path))
    if (path / "pyproject.toml").is_file():
        return Source("directory", str(path))
    word = text.partition("@")[0].strip()  # name @ https://... is a requirement too
    if "/" in word or word.endswith(".whl") or path.exists():
        raise Failure(
            ExitCode.NO_INPUT, f"--from {text}: no wheel, nor a directory with a pyproject.toml"
        )
    if not _REQUIREMENT.fullmatch(text.strip()):
        raise Failure(ExitCode.USAGE, f"--from {text}: no requirement of pip, as in flockwise==1.0")
    return Source("requirement", text.strip())


def running_source() -> Source:
    """The distribution that is running: its checkout or wheel where that is at hand.

    An environment that was made here takes the newest release instead.
    """
    if sys.prefix.startswith(ENVIRONMENTS):
        return Source("requirement", NAME)
    try:
        running = distribution(NAME)
    except PackageNotFoundError:
        return Source("directory", str(_HOME))
    origin = _origin(running)
    if origin is None and (_HOME / "pyproject.toml").is_file():
        return Source("directory", str(_HOME))
    return origin or Source("requirement", f"{NAME}=={running.version}")


def copy_source(source: Source, to: Path) -> None:
    """Copy what a wheel is built from, so that the build leaves nothing in somebody's directory."""
    shutil.copytree(source.text, to, ignore=_NOT_SOURCE)


@dataclass(frozen=True, slots=True)
class Wheel:
    """A wheel at hand: its name and version, and a digest of what is in it."""

    path: Path
    name: str
    version: str
    digest: str


def read_wheel(path: Path) -> Wheel:
    """Look into a wheel; raises Failure if it is none. Two builds of the same source are equal."""
    words = path.name.split("-")
    try:
        with zipfile.ZipFile(path) as archive:
            record = next(one for one in archive.namelist() if one.endswith(".dist-info/RECORD"))
            lines = sorted(archive.read(record).splitlines())
    except (OSError, zipfile.BadZipFile, StopIteration) as error:
        raise Failure(ExitCode.NO_INPUT, f"{path}: not a wheel") from error
    return Wheel(path, words[0], words[1], hashlib.sha256(b"\n".join(lines)).hexdigest())


def _origin(running: Distribution) -> Source | None:
    """The wheel or directory that pip says it was installed from, if it is still there."""
    told = running.read_text("direct_url.json")
    parts = urlsplit(str(json.loads(told).get("url", ""))) if told else None
    if parts is None or parts.scheme != "file":
        return None
    path = Path(unquote(parts.path))
    if path.suffix == ".whl" and path.is_file():
        return Source("wheel", str(path))
    return Source("directory", str(path)) if (path / "pyproject.toml").is_file() else None
