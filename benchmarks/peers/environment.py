"""An environment of its own for each peer: its newest release from PyPI, kept in a cache folder.

It is made once, and used again for a week; then pip looks whether there is a newer release. Without
a network an environment that is there is used as it is.
"""

from __future__ import annotations

import subprocess
import time
import venv
from dataclasses import dataclass
from pathlib import Path

from config.failures import ExitCode, Failure

CACHE = Path(__file__).resolve().parent.parent / ".peers"
FRESH_S = 7 * 86_400.0
PATIENCE_S = 600.0


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a peer is installed, and which release."""

    programs: Path
    package: str
    release: str

    def program(self, name: str) -> str:
        """The path of one of its programs."""
        return str(self.programs / name)


def is_made(package: str, cache: Path = CACHE) -> bool:
    """Whether the environment of a package is there."""
    return _stamp(package, cache).exists()


def made(package: str, cache: Path = CACHE) -> Environment:
    """The environment with the newest release of a package.

    Raises:
        Failure: it is not there, and cannot be made.
    """
    stamp = _stamp(package, cache)
    if not stamp.exists() or time.time() - stamp.stat().st_mtime > FRESH_S:
        try:
            _install(package, stamp.parent)
        except Failure:
            if not stamp.exists():
                raise
    programs = stamp.parent / "bin"
    return Environment(programs, package, _release(package, programs / "python"))


def _stamp(package: str, cache: Path) -> Path:
    return cache / package / "installed"


def _install(package: str, folder: Path) -> None:
    try:
        if not (folder / "bin" / "python").exists():
            venv.create(folder, with_pip=True)
        options = ("--quiet", "--upgrade", "--disable-pip-version-check")
        pip = subprocess.run(
            [folder / "bin" / "python", "-m", "pip", "install", *options, package],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.SubprocessError) as error:
        raise _fault(package, str(error)) from None
    if pip.returncode != 0:
        told = [line for line in pip.stderr.splitlines() if line.startswith("ERROR")]
        raise _fault(package, told[-1] if told else f"pip ended with code {pip.returncode}")
    (folder / "installed").touch()


def _fault(package: str, why: str) -> Failure:
    return Failure(
        ExitCode.UNAVAILABLE,
        f"{package} cannot be installed ({why}); is there a network, and room on the disk?",
    )


def _release(package: str, python: Path) -> str:
    script = f"from importlib.metadata import version; print(version({package!r}))"
    told = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
    return told.stdout.strip() or "unknown"
