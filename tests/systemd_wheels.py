"""Wheels to install from in a container that has no network.

What Flockwise needs is downloaded once, by the pip of this environment and as it is configured, and
kept. Flockwise itself is built anew from a copy of this checkout, which a test may alter.
"""

from __future__ import annotations

import configparser
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.debian_root import alone, cache, run

CHECKOUT = Path(__file__).parents[1]
EXTRAS = ("agent", "coordinator", "broker")
_PIP = (sys.executable, "-m", "pip")
_NOT_SOURCE = shutil.ignore_patterns(
    ".*", "__pycache__", "*.egg-info", "build", "dist", "runs", "wandb", "tests", "docs"
)


def wheelhouse(python: str) -> Path:
    """What all roles need, for a Python such as 3.11, in one directory.

    Raises:
        CannotBeMadeError: pip did not get it.
    """
    wanted = _requirements()
    digest = hashlib.blake2b("\n".join(wanted).encode(), digest_size=4).hexdigest()
    with alone("wheels") as log:
        whole = cache() / f"wheels-{python}-{digest}"
        unfinished = whole.with_name(f"{whole.name}.unfinished")
        if whole.exists():
            return whole
        print(f"downloading what Flockwise needs on Python {python} to {whole}", flush=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        get: tuple[str, ...] = (
            *_PIP,
            "download",
            "--quiet",
            "--only-binary=:all:",
            f"--python-version={python}",
        )
        get += ("--dest", str(unfinished))
        torch = next(line for line in wanted if line.startswith("torch"))
        # A torch that lies on this machine is preferred: often one without the gigabytes for GPUs.
        found = subprocess.run(
            (*get, "--no-index", "--no-deps", torch), stderr=subprocess.DEVNULL, check=False
        ).returncode
        if found == 0:
            (lying,) = unfinished.glob("torch-*.whl")
            wanted = [f"torch=={lying.name.split('-')[1]}", *wanted]
        run((*get, *wanted), log, "what Flockwise needs was not downloaded")
        unfinished.rename(whole)
    return whole


def build(to: Path, version: str, alter: Callable[[Path], None] = lambda source: None) -> Path:
    """A wheel of this checkout that calls itself by this version; `alter` may change the source."""
    source = to / f"source-{version}"
    shutil.copytree(CHECKOUT, source, ignore=_NOT_SOURCE)
    setup = source / "setup.cfg"
    lines = setup.read_text().splitlines()
    named = [f"version = {version}" if line.startswith("version =") else line for line in lines]
    setup.write_text("\n".join(named) + "\n")
    alter(source)
    made = to / f"wheel-{version}"
    words = ("wheel", "--quiet", "--no-deps", "--wheel-dir", str(made), str(source))
    subprocess.run((*_PIP, *words), check=True)
    (wheel,) = made.glob("*.whl")
    return wheel


def size_bytes(directory: Path) -> int:
    """What all files below take."""
    files = (Path(path, name) for path, _, names in os.walk(directory) for name in names)
    return sum(file.lstat().st_size for file in files)


def _requirements() -> list[str]:
    setup = configparser.ConfigParser(interpolation=None)
    setup.read(CHECKOUT / "setup.cfg")
    extras = setup["options.extras_require"]
    tables = [setup["options"]["install_requires"], *(extras[name] for name in EXTRAS)]
    return sorted({line for table in tables for line in table.splitlines() if line})
