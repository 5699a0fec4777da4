"""What ends a federation of processes, what does not, and what people are told of it.

The broker is real; coordinator and agents are small scripts that log what real ones would.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from config.settings import DemoSettings
from experiments import local_federation
from experiments.interruption import Interruption, interruptible
from experiments.local_federation import LocalFederation, Outcome
from experiments.preparation import Prepared
from experiments.run_directory import RunDirectory
from experiments.scoreboard import Phase, Scoreboard

PUBLISHED = "log('version published', version=0, bytes=9)"


def script(
    coordinate: str = f"{PUBLISHED}; sleep()",
    work: str = "log('link up'); sleep()",
    leave: str = "",
) -> str:
    """What both roles do; `leave` is what they do when they are asked to end."""
    return f"""
import json, os, signal, sys, time
def log(text, level="info", **facts):
    told = {{"time": time.time(), "level": level, "text": text, **facts}}
    print(json.dumps(told), file=sys.stderr, flush=True)
def version(number, *devices):
    log("version made", version=number, devices=devices, staleness=[0] * len(devices))
def sleep():
    time.sleep(600)
def leave(*_):
    {leave or "pass"}
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
device = os.path.basename(os.path.dirname(sys.argv[-1]))
if sys.argv[1] == "coordinator":
    {coordinate}
else:
    {work}
"""


class Notebook:
    """A display that keeps what was said, and reacts to what it is shown."""

    def __init__(self, react: Callable[[Scoreboard], None] = lambda board: None) -> None:
        self.said: list[str] = []
        self.shown: list[Scoreboard] = []
        self._react = react

    def show(self, board: Scoreboard) -> None:
        self.shown.append(board)
        assert len(self.shown) < 300, "nothing came to an end"
        self._react(board)

    def say(self, text: str) -> None:
        self.said.append(text)

    def close(self, board: Scoreboard) -> None:
        self.shown.append(board)

    def __enter__(self) -> Notebook:
        return self

    def __exit__(self, *_: object) -> None:
        pass


Play = Callable[..., Outcome]


@pytest.fixture
def notebook() -> Notebook:
    return Notebook()


@pytest.fixture
def play(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notebook: Notebook) -> Play:
    """Let a federation of two devices be played by a script until it ends."""
    monkeypatch.setattr(local_federation, "TICK_S", 0.02)

    def run(
        code: str = script(),
        react: Callable[[LocalFederation, Scoreboard], None] = lambda f, b: None,
        asked: Interruption | None = None,
    ) -> Outcome:
        def command(words: Sequence[str]) -> list[str]:
            return [sys.executable, "-c", code, *words]

        monkeypatch.setattr(local_federation, "flockwise_command", command)
        data = Prepared({"one": 10, "two": 10}, 5, "nothing", generated=True)
        settings = DemoSettings(devices=2, versions=2)
        with LocalFederation(settings, RunDirectory(tmp_path), data) as federation:
            notebook._react = lambda board: react(federation, board)
            return federation.go(notebook, asked or Interruption())

    return run


def said(notebook: Notebook) -> str:
    return "\n".join(notebook.said)


def test_it_is_finished_when_the_coordinator_ends_after_the_last_version(
    play: Play, notebook: Notebook
) -> None:
    outcome = play(script(f"{PUBLISHED}; version(1, 'one'); version(2, 'one', 'two')"))
    assert (outcome.ending, outcome.problem) == ("finished", None)
    assert [row.version for row in outcome.board.versions] == [0, 1, 2]
    assert notebook.said == []


def test_a_coordinator_that_ends_early_ends_the_run(play: Play) -> None:
    outcome = play(script(f"{PUBLISHED}; version(1, 'one')"))
    assert (outcome.ending, outcome.problem) == ("failed", "the coordinator ended")


def test_a_coordinator_that_dies_ends_the_run_and_leaves_word(
    play: Play, notebook: Notebook, tmp_path: Path
) -> None:
    outcome = play(script(f"{PUBLISHED}; sys.exit('out of luck')"))
    assert outcome.ending == "failed"
    assert outcome.problem == "the coordinator ended with code 1 (failure)"
    assert "coordinator ended with code 1 (failure). The end of its log" in said(notebook)
    assert "    out of luck" in said(notebook)
    assert f"Kept in {tmp_path / 'coordinator'}" in said(notebook)


def test_a_device_that_dies_does_not_end_the_run(
    play: Play, notebook: Notebook, tmp_path: Path
) -> None:
    killed: list[int] = []

    def react(federation: LocalFederation, board: Scoreboard) -> None:
        together = board.newest and all(row.linked for row in board.devices.values())
        if not killed and together:
            killed.append(federation.pid("one"))
            os.kill(killed[0], signal.SIGKILL)
        elif board.devices["one"].ended:
            os.kill(os.getpid(), signal.SIGINT)

    with interruptible() as asked:
        outcome = play(script(), react, asked)
    assert (outcome.ending, asked.exit_code) == ("interrupted", 130)
    assert outcome.board.devices["one"].ended == "was ended by SIGKILL"
    assert outcome.board.devices["two"].phase is Phase.WAITING
    assert "one was ended by SIGKILL; the others go on." in said(notebook)
    assert f"flockwise agent run --config {tmp_path / 'devices' / 'one'}" in said(notebook)


def test_without_any_device_the_run_ends(play: Play) -> None:
    outcome = play(script(work="time.sleep(1); sys.exit(3)"))
    assert (outcome.ending, outcome.problem) == ("failed", "no device is left")


def test_a_device_that_never_comes_ends_what_waits_for_all(play: Play) -> None:
    absent = "log('link up'); sys.exit(66) if device == 'two' else sleep()"
    outcome = play(script(coordinate="sleep()", work=absent))
    assert outcome.problem == "two ended before all devices had come together"


def test_a_broker_that_dies_is_replaced_on_its_port(play: Play, notebook: Notebook) -> None:
    ports: list[int] = []

    def react(federation: LocalFederation, board: Scoreboard) -> None:
        if len(ports) < 2 and not notebook.said[len(ports) :]:
            ports.append(federation.broker.port)
            os.kill(federation.broker.pid, signal.SIGKILL)
            federation.broker.wait()
        elif len(notebook.said) == 2:
            assert federation.broker.alive
            assert {*ports, federation.broker.port} == {ports[0]}
            os.kill(os.getpid(), signal.SIGINT)

    with interruptible() as asked:
        outcome = play(script(), react, asked)
    assert outcome.ending == "interrupted"
    assert "Nothing is lost" in said(notebook)


def test_a_broker_that_dies_again_and_again_ends_the_run(play: Play) -> None:
    def react(federation: LocalFederation, board: Scoreboard) -> None:
        if federation.broker.alive:
            os.kill(federation.broker.pid, signal.SIGKILL)
            federation.broker.wait()

    outcome = play(script(), react)
    assert outcome.ending == "failed"
    assert "the broker ended 4 times" in (outcome.problem or "")


def test_warnings_of_the_end_itself_are_no_news(play: Play) -> None:
    farewell = "log('link down', level='warning'); log('traffic', sent_bytes=7, received_bytes=8)"

    def react(federation: LocalFederation, board: Scoreboard) -> None:
        if board.newest and all(row.linked for row in board.devices.values()):
            os.kill(os.getpid(), signal.SIGTERM)

    with interruptible() as asked:
        outcome = play(script(leave=farewell), react, asked)
    assert asked.exit_code == 143
    assert outcome.board.notices == ()
    assert {row.sent_bytes for row in outcome.board.devices.values()} == {7}
