"""Rounds without training by Flower: a SuperLink and SuperNodes, as its guides deploy them.

What is set in Flower's favour: no TLS, state in memory, no telemetry, no look for updates, no
installation of an app's dependencies at run time, no evaluation, and clients that import numpy and
no torch. How often SuperExec asks for tasks is left at Flower's second (`--poll-s` changes it):
with ten clients on two cores asking more often costs more than it gains. What cannot be set are
sleeps of three seconds between two questions for messages, of a SuperNode and of the ServerApp, and
that each task is a new process.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.families import births_of, family_of, see_them_end
from benchmarks.overhead_figures import (
    Found,
    Looks,
    Work,
    link_between,
    moved_right,
    rounds_between,
)
from benchmarks.overhead_task import EXAMPLES, STEP, TENSORS, step_of
from benchmarks.peers.environment import Environment
from benchmarks.relay import Relay
from config.failures import ExitCode, Failure
from experiments.children import Children
from experiments.json_lines import lines_in
from experiments.scoreboard import Ended

PACKAGE = "flwr"
APP = Path(__file__).with_name("flower")
POLL_S = 1.0
SUPERLINK = "superlink"
START_S = 60.0
STALLED_S = 180.0
TICK_S = 0.05


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a deployment lies, and how its programs are started."""

    folder: Path
    flower: Environment
    port: int
    poll_s: float

    def command(self, program: str, *words: str) -> list[str]:
        home, path = self.folder / "home", f"{self.flower.programs}:/usr/bin:/bin"
        told = {
            "PATH": path,
            "FLWR_HOME": home,
            "FLWR_TELEMETRY_ENABLED": 0,
            "FLWR_DISABLE_UPDATE_CHECK": 1,
            "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": self.poll_s,
        }
        settings = [f"{name}={value}" for name, value in told.items()]
        return ["env", *settings, self.flower.program(program), *words]


def run(work: Work, folder: Path, flower: Environment, poll_s: float = POLL_S) -> Found:
    """Make so many rounds of FedAvg, each with all clients.

    Raises:
        Failure: something did not go as it should.
    """
    port, *own_ports = _free_ports(1 + work.clients)
    names = [f"supernode-{index}" for index in range(work.clients)]
    place = _Place(folder, flower, port, poll_s)
    _write_home(place)
    everyone: dict[int, str] = {}
    try:
        with ExitStack() as stack:
            children = stack.enter_context(Children())
            _start_superlink(place, children)
            relay = stack.enter_context(Relay("127.0.0.1", port))
            for index, (name, own) in enumerate(zip(names, own_ports, strict=True)):
                there = port if index else relay.port
                step = step_of(index, work.clients)
                _start_supernode(place, children, name, own, there, step)
            parts = {
                "serving": (children.pid(SUPERLINK),),
                "clients": tuple(map(children.pid, names)),
            }
            looks = stack.enter_context(Looks(parts, training="flwr-clientapp"))
            stack.callback(
                lambda: everyone.update(
                    births_of(family_of(pid for p in parts.values() for pid in p))
                )
            )
            _submit(place, work)
            times_s = _watch(children, place, work, looks)
            cpu_s, memory = looks.cpu_s(), looks.memory()
            link_bytes = link_between(relay, times_s)
    finally:
        see_them_end(everyone)
    return Found(
        f"Flower {flower.release}",
        work,
        rounds_between(times_s),
        link_bytes,
        cpu_s / (work.rounds - 1),
        memory,
    )


def _write_home(place: _Place) -> None:
    home = place.folder / "home"
    home.mkdir(parents=True)
    shutil.copytree(APP, place.folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "config.toml").write_text(
        '[superlink]\ndefault = "bench"\n\n[superlink.bench]\n'
        f'address = "127.0.0.1:{place.port}"\ninsecure = true\n'
    )


def _start_superlink(place: _Place, children: Children) -> None:
    words = ("--insecure", "--host", "127.0.0.1", "--port", str(place.port))
    command = place.command("flower-superlink", *words, "--disable-runtime-dependency-installation")
    children.start(SUPERLINK, command, place.folder / "superlink.log")
    end_s = time.monotonic() + START_S
    while time.monotonic() < end_s:
        _see_all_run(children)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", place.port)) == 0:
                return
        time.sleep(TICK_S)
    raise Failure(ExitCode.UNAVAILABLE, f"Flower's SuperLink does not listen after {START_S:g} s")


def _start_supernode(
    place: _Place, children: Children, name: str, own: int, there: int, step: float
) -> None:
    words = ("--insecure", "--host", "127.0.0.1", "--port", str(own))
    told = ("--superlink", f"127.0.0.1:{there}", "--node-config", f"step={step}")
    command = place.command("flower-supernode", *words, *told)
    children.start(name, command, place.folder / f"{name}.log")


def _submit(place: _Place, work: Work) -> None:
    config = {
        "clients": work.clients,
        "elements": work.elements,
        "tensors": TENSORS,
        "rounds": work.rounds,
        "examples": EXAMPLES,
        "marks": f"'{_marks(place)}'",
    }
    told = " ".join(f"{name}={value}" for name, value in config.items())
    command = place.command("flwr", "run", str(place.folder / "app"), "bench", "--run-config", told)
    done = subprocess.run(command, capture_output=True, text=True, timeout=START_S, check=False)
    if done.returncode != 0:
        why = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Failure(ExitCode.FAILURE, f"Flower does not take the app: {' '.join(why)}")


def _watch(children: Children, place: _Place, work: Work, looks: Looks) -> list[float]:
    """Wait for all rounds; when the first began, and when the model of each was made."""
    marks: list[dict[str, Any]] = []
    moved_s = time.monotonic()
    while not (marks and "elements" in marks[-1]):
        time.sleep(TICK_S)
        _see_all_run(children)
        heard = [mark for _, mark in lines_in(_marks(place))]
        if len(heard) > len(marks):
            marks, moved_s = heard, time.monotonic()
        if time.monotonic() - moved_s > STALLED_S:
            raise Failure(ExitCode.FAILURE, f"Flower made no round in {STALLED_S:g} s")
        if not looks.is_begun and any("made" in mark for mark in marks):
            looks.begin()
    made = [mark for mark in marks if "made" in mark]
    _see_the_model(made, marks[-1], work)
    return [marks[0]["time"], *(mark["time"] for mark in made)]


def _see_the_model(made: list[dict[str, Any]], last: dict[str, Any], work: Work) -> None:
    """All did their part: else the model is another one."""
    whole = last["elements"] == work.elements and len(made) == work.rounds
    answered = all(mark["replies"] == work.clients for mark in made)
    right = moved_right(last["low"], last["high"], work, STEP)
    if not (whole and answered and right):
        raise Failure(ExitCode.FAILURE, f"not all clients of Flower did their part: {last}")


def _see_all_run(children: Children) -> None:
    for event in children.poll():
        if isinstance(event, Ended):
            why = f"{event.source} {event.how}: {' '.join(event.last_lines[-1:])}"
            raise Failure(ExitCode.FAILURE, f"Flower did not go on: {why}")


def _marks(place: _Place) -> Path:
    return place.folder / "marks.jsonl"


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
