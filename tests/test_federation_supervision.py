"""What a service manager hears of a role: sd_notify's words, at the right moments."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from federation.supervision import FEED_FRACTION, Supervisor


class Manager:
    """The other end: what it was told."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        words = []
        while True:
            try:
                words.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return words

    def close(self) -> None:
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    made = Manager(path if request.param == "path" else f"@{path}")
    yield made
    made.close()


def test_it_is_told_ready_status_and_stopping(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": manager.address})
    supervisor.ready()
    supervisor.status("linked")
    supervisor.status("linked")
    supervisor.stopping()
    assert manager.heard() == ["READY=1", "STATUS=linked", "STOPPING=1"]


def test_a_reload_tells_when_it_began(manager: Manager) -> None:
    Supervisor({"NOTIFY_SOCKET": manager.address}).reloading()
    ((first, second),) = (word.split("\n") for word in manager.heard())
    assert first == "RELOADING=1"
    assert second.startswith("MONOTONIC_USEC=")
    assert int(second.partition("=")[2]) > 0


def test_a_sign_of_life_is_given_well_before_it_is_missed(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"})
    assert supervisor.due_s == -inf
    supervisor.feed(lambda: True)
    began_s = supervisor.due_s - 30 * FEED_FRACTION
    supervisor.feed(lambda: True)
    assert manager.heard() == ["WATCHDOG=1"], "the second came too early"
    assert began_s > 0


def test_without_life_there_is_no_sign_of_it_and_no_spinning(manager: Manager) -> None:
    supervisor = Supervisor({"NOTIFY_SOCKET": manager.address, "WATCHDOG_USEC": "30000000"})
    supervisor.feed(lambda: False)
    assert manager.heard() == []
    assert supervisor.due_s > 0


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": str(os.getpid() + 1)},
    ],
    ids=["none", "off", "nonsense", "of another process"],
)
def test_where_nobody_watches_no_sign_is_due(environ: dict[str, str]) -> None:
    assert Supervisor(environ).due_s == inf


def test_a_manager_that_is_gone_does_not_end_the_role(tmp_path: Path) -> None:
    Supervisor({"NOTIFY_SOCKET": str(tmp_path / "nobody")}).ready()
