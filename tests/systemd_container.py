"""A Debian that boots with systemd in a container of its own, as on a device.

The container sees neither the network of this machine nor anything else of it, but for what is
bound into it. It is run by `systemd-nspawn` without a machine manager, so commands are run in it by
`nsenter`. All of it ends with the process that it was started by.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.debian_root import CannotBeMadeError, alone, need

LONG_S = 120.0
REBOOTED = 133  # what systemd-nspawn ends with when its payload wants to be started again
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "HOME": "/root",
}
# All of this is seen by it alone. Its cgroups are of one version, whatever this machine mixes.
# Its root is what was written so far over the layers below; where that cannot be, a copy of them.
_BOOT = """
mount --make-rprivate /
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir -p /run/systemd/nspawn
mount -t tmpfs tmpfs /run/systemd/nspawn
echo $$ > "/sys/fs/cgroup/$1/cgroup.procs"
cd "$2"
mkdir -p root upper work
options="lowerdir=$3,upperdir=upper,workdir=work"
if ! mount -t overlay -o "$options" flockwise root && [ ! -e root/usr ]; then
  cp --archive "${3%%:*}/." root
fi
shift 3
exec systemd-nspawn "$@"
"""


class Container:
    """A machine that is booted, looked into, rebooted, and cut off as by a loss of power."""

    def __init__(self, layers: Sequence[Path], place: Path, bound: Sequence[Path] = ()) -> None:
        """What is to be booted; nothing is done yet.

        Args:
            layers: what its disk holds at first, the uppermost directory first; left as they are.
            place: a directory for what is written.
            bound: what of this machine it sees, under the same names, read-only.
        """
        self.boot_s = 0.0
        self._below = tuple(layers)
        self._place = place
        self._bound = tuple(bound)
        self._leader = 0
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._cgroup = _cgroup_mount() / f"flockwise-{os.getpid()}-{place.name}"

    @property
    def layers(self) -> tuple[Path, ...]:
        """Its disk as it is now, for another machine that starts from there; not while it runs."""
        assert self._nspawn is None, "it is running"
        whole = self._place / "root"
        return (whole,) if (whole / "usr").exists() else (self._place / "upper", *self._below)

    def boot(self) -> None:
        """Start it, and wait until its systemd says that it has started all there is."""
        _have_nspawn()
        assert self._nspawn is None, "it is running"
        begun_s = time.monotonic()
        self._place.mkdir(parents=True, exist_ok=True)
        self._cgroup.mkdir(exist_ok=True)
        said = self._place / "notify"
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear,
            self._console.open("ab") as to,
        ):
            said.unlink(missing_ok=True)
            ear.bind(str(said))
            ear.settimeout(1)
            self._nspawn = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=to,
                stderr=to,
                env={**os.environ, "NOTIFY_SOCKET": str(said)},
            )
            self._leader = self._until_ready(ear)
        self.run("systemctl", "is-system-running", "--wait", check=False)
        self.boot_s = time.monotonic() - begun_s

    def run(
        self, *words: str, check: bool = True, timeout_s: float = LONG_S, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        """Run a command in it as root to its end; with `check` it must not fail."""
        done = subprocess.run(
            (*self._enter(), *words),
            env=ENVIRONMENT | environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode:
            raise AssertionError(
                f"{' '.join(words)} gave {done.returncode}:\n{done.stdout}{done.stderr}"
            )
        return done

    def say(self, *words: str) -> str:
        """What a command in it writes, without the white space around it."""
        return self.run(*words).stdout.strip()

    def path(self, inside: str) -> Path:
        """Where one of its files is for us, while it runs (a link is followed in our root)."""
        assert self._leader, "it is not running"
        return Path(f"/proc/{self._leader}/root") / inside.lstrip("/")

    def reboot(self) -> None:
        """Have it reboot in good order, and wait until it is up again."""
        self.run("systemctl", "reboot")
        assert self._ended() == REBOOTED, "it did not want to be started again"
        self.boot()

    def power_off(self) -> None:
        """Have it stop in good order."""
        self.run("systemctl", "poweroff")
        assert self._ended() == 0, "it did not stop in good order"

    def cut_power(self) -> None:
        """End all that runs in it at once, as a loss of power does (what was written stays)."""
        if self._nspawn is None:
            return
        if self._leader:
            # The first process of its namespace takes all others with it.
            os.kill(self._leader, signal.SIGKILL)
        else:
            self._nspawn.terminate()
        self._ended()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.cut_power()

    @property
    def _console(self) -> Path:
        """What systemd-nspawn said."""
        return self._place / "console"

    def _command(self) -> tuple[str, ...]:
        # It ends with us, however we end: unshare is told of it by the kernel.
        apart = ("setpriv", "--pdeathsig", "TERM", "unshare", "--mount")
        return (
            *(*apart, "sh", "-euc", _BOOT, "boot", self._cgroup.name, str(self._place)),
            ":".join(map(str, self._below)),
            *("--quiet", "--boot", "--register=no", "--keep-unit", "--private-network"),
            *("--notify-ready=yes", "--console=pipe", "--link-journal=no"),
            *(f"--bind-ro={path}" for path in self._bound),
            f"--directory={self._place / 'root'}",
        )

    def _enter(self) -> tuple[str, ...]:
        assert self._leader, "it is not running"
        spaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup")
        return ("nsenter", f"--target={self._leader}", *spaces, "--root", "--wd", "--")

    def _until_ready(self, ear: socket.socket) -> int:
        assert self._nspawn is not None
        leader, end_s = 0, time.monotonic() + LONG_S
        while time.monotonic() < end_s and self._nspawn.poll() is None:
            try:
                lines = ear.recv(65536).decode().splitlines()
            except TimeoutError:
                continue
            for line in lines:
                name, _, value = line.partition("=")
                if name == "X_NSPAWN_LEADER_PID":
                    leader = int(value)
            if "READY=1" in lines:
                return leader
        self.cut_power()
        said = self._console.read_text(errors="replace").strip().splitlines() or ["(nothing)"]
        raise CannotBeMadeError(f"systemd-nspawn does not boot here: {said[-1]}")

    def _ended(self) -> int:
        assert self._nspawn is not None
        code = self._nspawn.wait(LONG_S)
        self._nspawn, self._leader = None, 0
        for path, _, _ in os.walk(self._cgroup, topdown=False):
            Path(path).rmdir()
        return code


def _have_nspawn() -> None:
    with alone("systemd-nspawn") as log:
        need({"systemd-nspawn": "systemd-container"}, log)


def _cgroup_mount() -> Path:
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, _ = line.split(" ", 3)
        if kind == "cgroup2":
            return Path(place)
    raise CannotBeMadeError("this machine has no cgroups of version 2 for systemd to use")
