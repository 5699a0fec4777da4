"""A Debian 13 root with RabbitMQ 4 and NATS in it, made once and kept.

`python -m tests.cluster_root` makes it. What runs in it is started by chroot, so nothing
of this machine is changed, and any Debian will do. `CLUSTER_CACHE` says where it is kept, outside
the repository; `CLUSTER_MIRROR` names another mirror than debootstrap's own. Where it cannot be
made, one line says why.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SUITE = "trixie"
PACKAGES = ("rabbitmq-server", "nats-server")
# Nothing is started by its installation.
_SCRIPT = """
rm -rf "$1"
debootstrap --variant=minbase "$4" "$1" $2
printf '#!/bin/sh\\nexit 101\\n' > "$1/usr/sbin/policy-rc.d"
chmod +x "$1/usr/sbin/policy-rc.d"
export DEBIAN_FRONTEND=noninteractive
chroot "$1" apt-get -y install --no-install-recommends $3
chroot "$1" apt-get clean
"""


class CannotBeMadeError(Exception):
    """Why there is no such root, in one line."""


def cluster_root() -> Path:
    """The root, made if it is not there yet (about half a minute and 320 MB).

    Raises:
        CannotBeMadeError: no root, no debootstrap, no mirror.
    """
    if os.geteuid() != 0:
        raise CannotBeMadeError("it makes a Debian root and enters it by chroot: run it as root")
    cache = Path(os.environ.get("CLUSTER_CACHE", "/var/cache/flockwise/cluster"))
    cache.mkdir(parents=True, exist_ok=True)
    root, unfinished = cache / SUITE, cache / f"{SUITE}.unfinished"
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not root.exists():
            _need_debootstrap(cache / "making.log")
            print(f"making a Debian 13 root with {' and '.join(PACKAGES)} in {root}", flush=True)
            mirror = os.environ.get("CLUSTER_MIRROR", "")
            making = ("sh", "-euc", _SCRIPT, "making")
            words = (*making, str(unfinished), mirror, " ".join(PACKAGES), SUITE)
            # In namespaces of its own: whatever it mounts or starts ends with it, however it ends.
            apart = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
            _run((*apart, *words), cache / "making.log", "the Debian root was not made")
            unfinished.rename(root)
    return root


def package_version(root: Path, package: str) -> str:
    """The upstream version of a package in the root."""
    query = ("chroot", str(root), "dpkg-query", "-W", "-f", "${source:Upstream-Version}", package)
    whole = subprocess.run(query, check=True, capture_output=True, text=True).stdout
    return whole.partition("+")[0]


def _need_debootstrap(log: Path) -> None:
    if shutil.which("debootstrap"):
        return
    if not shutil.which("apt-get"):
        raise CannotBeMadeError("there is no debootstrap here, and no apt-get to install it")
    for words in (("update",), ("install", "-y", "--no-install-recommends", "debootstrap")):
        _run(("apt-get", "-q", *words), log, "debootstrap was not installed")


def _run(command: Sequence[str], log: Path, failure: str) -> None:
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=output, check=False)
    if done.returncode:
        said = log.read_text(errors="replace").strip().splitlines() or ["nothing was said"]
        raise CannotBeMadeError(f"{failure}: {said[-1].strip()} (all of it: {log})")


if __name__ == "__main__":
    try:
        made = cluster_root()
    except CannotBeMadeError as reason:
        sys.exit(f"test-cluster cannot run: {reason}")
    told = [f"{package} {package_version(made, package)}" for package in PACKAGES]
    print(f"{made}: {', '.join(told)}")
