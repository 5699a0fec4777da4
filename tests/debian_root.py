"""Small Debian roots, each made once by debootstrap and kept outside the repository.

`FLOCKWISE_TEST_CACHE` says where, `DEBIAN_MIRROR` names another mirror than debootstrap's own.
Where one cannot be made, one line says why.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path


class CannotBeMadeError(Exception):
    """Why something that a test needs is not to be had here, in one line."""


def cache() -> Path:
    """The directory of what is made once."""
    path = Path(os.environ.get("FLOCKWISE_TEST_CACHE", "/var/cache/flockwise"))
    path.mkdir(parents=True, exist_ok=True)
    return path


@contextmanager
def alone(name: str) -> Iterator[Path]:
    """Hold a lock, so that two runs never make the same thing; gives the log of the making."""
    with (cache() / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield cache() / f"{name}.log"


def debian_root(name: str, suite: str, packages: Sequence[str]) -> Path:
    """The root of this name with these packages, made if it is not there yet.

    Raises:
        CannotBeMadeError: not run by root, no debootstrap, no mirror.
    """
    if os.geteuid() != 0:
        raise CannotBeMadeError("it makes a Debian root: run it as root")
    with alone(name) as log:
        root, unfinished = cache() / name, cache() / f"{name}.unfinished"
        if root.exists():
            return root
        need({"debootstrap": "debootstrap"}, log)
        print(f"making {root}: Debian {suite} with {', '.join(packages)}", flush=True)
        shutil.rmtree(unfinished, ignore_errors=True)
        mirror = os.environ.get("DEBIAN_MIRROR", "")
        include = f"--include={','.join(packages)}"
        words = ("debootstrap", "--variant=minbase", include, suite, str(unfinished), mirror)
        # In namespaces of its own: whatever it mounts or starts ends with it, however it ends.
        apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        run((*apart, *filter(None, words)), log, "the Debian root was not made")
        for used_up in (unfinished / "var/cache/apt/archives").glob("*.deb"):
            used_up.unlink()
        unfinished.rename(root)
    return root


def need(packages: dict[str, str], log: Path) -> None:
    """Have these commands here: of each, the Debian package that brings it if it is missing.

    Raises:
        CannotBeMadeError: there is no apt-get, or it did not install them.
    """
    missing = [package for command, package in packages.items() if not shutil.which(command)]
    if not missing:
        return
    if not shutil.which("apt-get"):
        raise CannotBeMadeError(f"there is no {missing[0]} here, and no apt-get to install it")
    failure = f"{' and '.join(missing)} could not be installed"
    # Nothing that comes with them is started on this machine.
    for words in (("update",), ("install", "--yes", "--no-install-recommends", *missing)):
        run(("env", "RUNLEVEL=1", "apt-get", "--quiet", *words), log, failure)


def run(command: Sequence[str], log: Path, failure: str) -> None:
    """Run a command to its end, its words in the log.

    Raises:
        CannotBeMadeError: it failed; with the last line that it said.
    """
    with log.open("wb") as output:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        done = subprocess.run(
            command, stdout=output, stderr=output, env=environment, check=False
        ).returncode
    if done:
        said = log.read_text(errors="replace").strip().splitlines() or ["nothing was said"]
        raise CannotBeMadeError(f"{failure}: {said[-1].strip()} (all of it: {log})")
