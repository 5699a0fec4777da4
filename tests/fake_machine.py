"""A machine for tests of installation: a directory for its root, and a systemd that is a dict.

Its programs are recorded and do what the real ones do to files, as far as a plan looks at it.
"""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from installation.machine import Machine, Result
from installation.units import remake

Argv = tuple[str, ...]


@dataclass
class FakePrograms:
    """systemctl, pip and the others.

    Attributes:
        ran: every command, in order.
        broken_since: environments from this one on do not become ready.
        failing: first words of a command that is to fail, and what it says.
    """

    root: Path
    ran: list[Argv] = field(default_factory=list)
    active: set[str] = field(default_factory=set)
    enabled: set[str] = field(default_factory=set)
    broken_since: int = 1000
    failing: dict[str, str] = field(default_factory=dict)
    python: str = "3 11 /usr/bin/python3.11"
    loaded: dict[str, int] = field(default_factory=dict)

    def __call__(
        self, argv: Argv, given: bytes = b"", environ: Mapping[str, str] | None = None
    ) -> Result:
        self.ran.append(argv)
        line = " ".join(argv)
        for words, said in self.failing.items():
            if words in line:
                return Result(1, "", said)
        match argv:
            case ("systemctl", *_):
                return self._systemctl(list(argv[1:]))
            case ("systemd-creds", "encrypt", *_):
                return Result(0, base64.b64encode(given).decode())
            case ("systemd-creds", "decrypt", _, path, _):
                return Result(0, base64.b64decode(Path(path).read_bytes()).decode())
            case (_, "-m", "venv", path):
                (Path(path) / "bin").mkdir(parents=True)
                (Path(path) / "bin/flockwise").write_text("")
            case (_, "-m", "pip", "wheel", *_):
                make_wheel(Path(argv[argv.index("--wheel-dir") + 1]), "9.9")
            case (_, "-m", "installation.units"):
                return Result(0, json.dumps(remake(json.loads(given))))
            case (_, "-c", *_):
                return Result(0, self.python)
        return Result(0)

    def _systemctl(self, words: list[str]) -> Result:
        unit = words[-1]
        match words:
            case ["--version"]:
                return Result(0, "systemd 252 (252.39-1)")
            case ["is-active", _]:
                return self._tell(unit in self.active, "active", "inactive")
            case ["is-enabled", _]:
                return self._tell(unit in self.enabled, "enabled", "disabled")
            case ["show", name, *_]:
                return Result(0, self._property(name.removeprefix("--property="), unit))
            case ["daemon-reload"]:
                self.loaded = self._files()
            case ["enable", *_]:
                self.enabled.add(unit)
            case ["disable", *_]:
                self.enabled.discard(unit)
            case ["stop", _]:
                self.active.discard(unit)
            case ["restart", _]:
                self.active.discard(unit)
                link = self.root / "opt/flockwise/current"
                if int(str(link.readlink()).rpartition("-")[2]) >= self.broken_since:
                    return Result(1, "", f"Job for {unit} failed.")
                self.active.add(unit)
        return Result(0)

    def _tell(self, yes: bool, word: str, other: str) -> Result:
        return Result(0, word) if yes else Result(3, other)

    def _property(self, name: str, unit: str) -> str:
        values = {
            "NeedDaemonReload": "yes" if self.loaded != self._files() else "no",
            "ActiveState": "active" if unit in self.active else "inactive",
            "NRestarts": "0",
            "ExecMainStatus": "78",
            "Result": "exit-code",
        }
        return values.get(name, "")

    def _files(self) -> dict[str, int]:
        units = (self.root / "etc/systemd/system").rglob("flockwise-*")
        return {str(path): path.stat().st_mtime_ns for path in units if path.is_file()}

    def changing(self) -> list[Argv]:
        """The commands that changed something."""
        asking = ("is-active", "is-enabled", "show", "--version")
        return [
            argv for argv in self.ran if argv[1] not in (*asking, "decrypt") and argv[1] != "-c"
        ]


def fake_machine(root: Path) -> tuple[Machine, FakePrograms]:
    """A machine with a systemd and nothing of ours on it."""
    (root / "run/systemd/system").mkdir(parents=True)
    programs = FakePrograms(root)
    machine = Machine(root, programs, systemd=252, encrypts=True, sleep=lambda _: None)
    return machine, programs


def make_wheel(directory: Path, version: str, content: str = "") -> Path:
    """A wheel with one module."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"flockwise-{version}-py3-none-any.whl"
    digest = hashlib.sha256(content.encode()).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("flockwise.py", content)
        archive.writestr(
            f"flockwise-{version}.dist-info/RECORD", f"flockwise.py,sha256={digest},\n"
        )
    return path


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file and link below, with its mode and content."""
    return {
        str(path.relative_to(root)): (
            path.lstat().st_mode,
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_symlink() or path.is_file()
    }
