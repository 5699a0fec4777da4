"""The machine that a plan is for: its files under a root, and a way to run its programs.

Steps reach the machine through this alone, so that a test gives them a directory for a root and a
record for a runner.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from config.failures import ExitCode, Failure

OLDEST_SYSTEMD = 250
NOT_FOUND = 127


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a program: its exit status, and what it said."""

    status: int
    output: str = ""
    errors: str = ""

    @property
    def last_words(self) -> str:
        """The line to show of a program that failed: its last error, or its last line."""
        lines = [line.strip() for line in (self.errors or self.output).splitlines()]
        told = [line for line in lines if line and not line.startswith("[notice]")]
        errors = [line for line in told if line.upper().startswith("ERROR")]
        return ([*told, *errors] or ["it says nothing"])[-1]


class Runner(Protocol):
    """Runs a program to its end."""

    def __call__(
        self, argv: tuple[str, ...], given: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> Result:
        """Give it `given` on stdin, and `environ` beside its environment."""


def run_program(
    argv: tuple[str, ...], given: bytes = b"", environ: Mapping[str, str] | None = None
) -> Result:
    """Run a program of this machine; one that is not there ends with 127, as in a shell."""
    try:
        done = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            check=False,
            env={**os.environ, "LC_ALL": "C.UTF-8", **(environ or {})},
        )
    except OSError as error:
        return Result(NOT_FOUND, "", f"{argv[0]}: {error.strerror}")
    return Result(
        done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    )


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine with systemd: where its root is, how its programs are run.

    Attributes:
        systemd: the version of systemd.
        encrypts: whether credentials can be encrypted for this machine.
    """

    root: Path = Path("/")
    run: Runner = run_program
    systemd: int = OLDEST_SYSTEMD
    encrypts: bool = False
    sleep: Callable[[float], None] = field(default=time.sleep)

    def at(self, path: str) -> Path:
        """Where a path of the machine lies for us."""
        return self.root / path.lstrip("/")

    def systemctl(self, *words: str) -> Result:
        """Ask or tell systemd."""
        return self.run(("systemctl", *words))

    def property_of(self, unit: str, name: str) -> str:
        """A property that systemd knows of a unit; empty if it does not."""
        return self.systemctl("show", f"--property={name}", "--value", unit).output.strip()


def look(root: Path = Path("/"), run: Runner = run_program) -> Machine:
    """See what this machine has; where there is no systemd, the oldest that will do is assumed."""
    told = re.match(r"systemd (\d+)", run(("systemctl", "--version")).output)
    version = int(told[1]) if told else OLDEST_SYSTEMD
    encrypts = run(("systemd-creds", "--version")).status == 0
    return Machine(root, run, version, encrypts)


def require_root_and_systemd(machine: Machine) -> None:
    """Raise Failure where services cannot be set up from here."""
    if machine.root == Path("/") and os.geteuid() != 0:
        raise Failure(
            ExitCode.CANNOT_WRITE, "only root may set up services: put sudo before the command"
        )
    if not machine.at("/run/systemd/system").is_dir():
        raise Failure(
            ExitCode.UNAVAILABLE,
            "this machine is not run by systemd; start roles by hand (flockwise agent run)",
        )
    if machine.systemd < OLDEST_SYSTEMD:
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"systemd {machine.systemd} is too old: services need {OLDEST_SYSTEMD} or later",
        )
