"""A service of a machine, as its systemd and its journal tell of it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.systemd_container import Container

LONG_S = 180.0


class Service:
    """A unit on a machine, as systemd and the journal tell of it."""

    def __init__(self, machine: Container, unit: str) -> None:
        self.machine = machine
        self.unit = unit

    @property
    def word(self) -> str:
        """What its files are called after."""
        return self.unit.removeprefix("flockwise-").removesuffix(".service").replace("@", "-")

    @property
    def settings(self) -> Path:
        """Its file in /etc/flockwise, for us."""
        return self.machine.path(f"/etc/flockwise/{self.word}.toml")

    def shown(self, name: str) -> str:
        """A property of the unit."""
        return self.machine.say("systemctl", "show", self.unit, f"--property={name}", "--value")

    @property
    def pid(self) -> int:
        """Of its main process, in the machine; 0 if there is none."""
        return int(self.shown("MainPID"))

    @property
    def state(self) -> str:
        """The word of systemd: active, activating, failed, inactive."""
        return self.shown("ActiveState")

    @property
    def restarts(self) -> int:
        """How often systemd has started it again by itself."""
        return int(self.shown("NRestarts"))

    @property
    def children(self) -> list[str]:
        """Process ids of all that it runs beside its main process."""
        group = f"/sys/fs/cgroup{self.shown('ControlGroup')}/cgroup.procs"
        all_of_them = self.machine.say("cat", group).split()
        return [pid for pid in all_of_them if pid != str(self.pid)]

    def journal(self, *matches: str) -> list[dict[str, Any]]:
        """What it and its processes have written since the machine booted; fields to match."""
        words = ("journalctl", "--boot", "--output=json", f"_SYSTEMD_UNIT={self.unit}", *matches)
        # Where nothing matches, it fails without a word.
        found = self.machine.run(*words, check=False)
        assert not found.stderr.strip(), found.stderr
        return [json.loads(line) for line in found.stdout.splitlines()]

    def told(self, text: str) -> list[dict[str, Any]]:
        """The entries of its journal that begin with this text."""
        return self.journal(f"--grep=^{text}")

    def wait_for(self, text: str, times: int = 1) -> dict[str, Any]:
        """Wait until it has told this so often; the last of them."""
        wait_until(lambda: len(self.told(text)) >= times, self.last_words)
        return self.told(text)[times - 1]

    def wait_for_more(self, text: str, more: int = 1) -> None:
        """Wait until it has told this again."""
        self.wait_for(text, len(self.told(text)) + more)

    def wait_until_active(self) -> None:
        """Wait until it is ready."""
        wait_until(lambda: self.state == "active", self.last_words)

    def wait_until_back(self, pid: int) -> None:
        """Wait until it is ready under another process id than this."""
        wait_until(lambda: self.state == "active" and self.pid not in (0, pid), self.last_words)

    def systemctl(self, word: str, *options: str) -> None:
        """Have systemd do something with it, and wait until that is done."""
        self.machine.run("systemctl", word, *options, self.unit)

    def configure(self, text: str) -> None:
        """Give it further directives, as an administrator does, until the machine boots again."""
        place = self.machine.path(f"/run/systemd/system/{self.unit}.d")
        place.mkdir(parents=True, exist_ok=True)
        (place / "test.conf").write_text(text)
        self.machine.run("systemctl", "daemon-reload")

    def last_words(self) -> str:
        """What to show of it when something did not come about."""
        words = ("systemctl", "status", "--lines=30", "--full", "--no-pager", self.unit)
        return self.machine.run(*words, check=False).stdout


def wait_until(done: Callable[[], bool], told: Callable[[], str] = lambda: "") -> None:
    """Wait for something that services do."""
    end_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < end_s, f"it did not come about\n{told()}"
        time.sleep(0.1)
