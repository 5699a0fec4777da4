"""A federation of real processes whose messages are signed and whose updates are sealed."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from broker.start import RunningBroker
from config.failures import ExitCode
from coordinator.keyring import add_key
from federation.topics import Topics
from tests.members import Authority
from tests.processes import Role, a_broker, a_coordinator, an_agent, command
from tests.stub_worker import a_stub_chunk, known_delta

TOPICS = Topics("flockwise", "default")
RULE = {"buffer_size": 2, "deadline_s": None, "max_staleness": 100, "combine": "mean"}


class Federation:
    """One coordinator and some agents, each with a membership of one authority."""

    def __init__(self, broker: RunningBroker, directory: Path) -> None:
        self.broker = broker
        self.directory = directory
        self.authority = Authority(TOPICS)
        self.closing = ExitStack()

    @property
    def state(self) -> Path:
        return self.directory / "coordinator"

    def coordinator(self, **settings: Any) -> Role:
        folder = self.state / "membership"
        if not folder.exists():
            self.authority.membership(folder, port=self.broker.port)
        plan = {"model": "stub", "codec": "float32"}
        whole = {"training": plan, "aggregation": RULE, "membership": folder, **settings}
        return self.closing.enter_context(
            a_coordinator(self.broker, self.state, stub=True, **whole)
        )

    def agent(
        self, device: str, updates: int, authority: Authority | None = None, **settings: Any
    ) -> Role:
        state = self.directory / device
        folder = state / "membership"
        if not folder.exists():
            (authority or self.authority).membership(folder, device, self.broker.port)
        chunk = a_stub_chunk(self.directory / f"{device}.json", updates)
        whole = {"membership": folder, **settings}
        return self.closing.enter_context(
            an_agent(self.broker, state, chunk, device, stub=True, **whole)
        )


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Federation]:
    with a_broker("auto", tmp_path) as broker:
        made = Federation(broker, tmp_path)
        with made.closing:
            yield made


def test_updates_arrive_signed_and_sealed(federation: Federation) -> None:
    coordinator = federation.coordinator(versions=3)
    federation.agent("one", 3)
    federation.agent("two", 3)
    assert coordinator.end() == ExitCode.OK
    assert len(coordinator.told("update accepted")) == 6
    plain = known_delta("one", 0).astype("<f4").tobytes()
    (first,) = (federation.state / "spool").glob("one.*.0")
    assert first.read_bytes() == plain  # it lies open once it was screened


def test_what_waits_on_a_device_is_sealed(federation: Federation) -> None:
    coordinator = federation.coordinator()
    agent = federation.agent("one", 2)
    coordinator.wait_for("update accepted")
    coordinator.stop()
    agent.wait_for("update in outbox", times=2)
    (waiting,) = (federation.directory / "one" / "outbox").glob("1.update")
    plain = known_delta("one", 1).astype("<f4").tobytes()
    assert len(waiting.read_bytes()) > len(plain)
    assert plain[:64] not in waiting.read_bytes()


def test_keys_are_renewed_without_touching_a_device(federation: Federation) -> None:
    coordinator = federation.coordinator(aggregation={**RULE, "buffer_size": 1})
    federation.agent("one", 2)
    coordinator.wait_for("update accepted")
    coordinator.stop()
    # The second update was sealed to the first key, and arrives after the second was made.
    add_key(federation.state / "sealing")
    again = federation.coordinator(aggregation={**RULE, "buffer_size": 1}, versions=2)
    assert again.end() == ExitCode.OK
    assert len(list((federation.state / "sealing").glob("*.pem"))) == 2


def test_a_device_of_another_authority_is_not_heard(federation: Federation) -> None:
    coordinator = federation.coordinator(versions=1)
    stranger = federation.agent("stranger", 5, Authority(TOPICS))
    told = coordinator.wait_for("message not believed")
    assert told["reason"] == "the credential is not of this federation's authority"
    assert stranger.wait_for("message not believed")["reason"] == told["reason"]
    federation.agent("one", 1)
    federation.agent("two", 1)
    assert coordinator.end() == ExitCode.OK
    with sqlite3.connect(federation.state / "ledger.sqlite") as ledger:
        devices = {row[0] for row in ledger.execute("SELECT device FROM updates")}
    ledger.close()
    assert devices == {"one", "two"}


def test_a_device_without_a_membership_is_told_what_it_lacks(federation: Federation) -> None:
    federation.coordinator()
    chunk = a_stub_chunk(federation.directory / "bare.json", 1)
    bare = federation.closing.enter_context(
        an_agent(federation.broker, federation.directory / "bare", chunk, "bare", stub=True)
    )
    told = bare.wait_for("malformed message ignored")
    assert "no membership" in told["detail"]


@pytest.mark.parametrize("role", ["agent", "coordinator"])
def test_no_role_runs_without_a_membership_unless_told_to(tmp_path: Path, role: str) -> None:
    chunk = a_stub_chunk(tmp_path / "one.json", 1)
    words = ["--device", "one", "--chunk", str(chunk)] if role == "agent" else []
    done = command(role, "run", "--state-dir", str(tmp_path / "state"), *words)
    assert done.returncode == ExitCode.CONFIG
    assert "there is no membership" in done.stderr
    assert "--insecure" in done.stderr
    assert len(done.stderr.splitlines()) == 1
