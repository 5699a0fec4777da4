"""A federation of three processes, coordinator, mosquitto and swarm, looked at from outside.

The coordinator is the real one, started by its command with settings from the environment; only its
worker is a stub, so that version 0 needs no torch and has any number of elements.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from benchmarks.gauges import Memory, busy_s, median_memory, memory_of
from broker.start import start as start_broker
from config.failures import ExitCode, Failure
from config.loading import to_environment
from config.settings import BrokerSettings, CoordinatorSettings, Link

STUB_ROLE = Path(__file__).parents[1] / "tests" / "stub_role.py"
CONNECT_S = 120.0
ANSWER_S = 60.0
LOOKS = 8


@dataclass(frozen=True, slots=True)
class Fleet:
    """What is run.

    Attributes:
        devices: how many are connected.
        elements: of the model, float32.
        codec: of updates.
        think_s: how long a training takes, on average; 0: devices offer again at once.
        fetches: whether devices fetch what they train on.
        idle: nothing is published, so there is nothing to do but to be there.
    """

    devices: int
    elements: int
    codec: str = "float32"
    think_s: float = 0.0
    fetches: bool = True
    idle: bool = False

    @property
    def buffer_size(self) -> int:
        """K: a tenth of the fleet, as a version of its every update would drown in headers."""
        return max(5, self.devices // 10)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen while it ran.

    Attributes:
        broker: its program and version.
        seconds: how long was looked.
        connect_s: until all devices were connected.
        told: what the swarm counted in this time (`swarm_record`).
        busy_s: processor seconds of coordinator, broker and swarm.
        memory: of the coordinator, and of the broker; medians of some looks.
        versions: that were made.
    """

    broker: str
    seconds: float
    connect_s: float
    told: dict[str, Any]
    busy_s: dict[str, float]
    memory: dict[str, Memory]
    versions: int

    @property
    def updates_s(self) -> float:
        """Updates that were accepted and receipted, a second."""
        return float(self.told["counts"].get("accepted", 0)) / self.seconds


def look_at(fleet: Fleet, folder: Path, seconds: float, warm_up_s: float) -> Seen:
    """Run it for a while and look.

    Args:
        folder: an empty directory for what is written.

    Raises:
        Failure: something ended, or did not answer.
    """
    with ExitStack() as closing:
        broker = closing.enter_context(
            start_broker(BrokerSettings(kind="mosquitto", port=0, insecure=True), folder)
        )
        link = Link(host=broker.host, port=broker.port, backoff_base_s=0.2, backoff_cap_s=1)
        coordinator = closing.enter_context(_coordinator(fleet, link, folder))
        swarm = closing.enter_context(_Swarm.started(fleet, link))
        pids = {"coordinator": coordinator.pid, "broker": broker.pid, "swarm": swarm.pid}
        connect_s = swarm.answer(CONNECT_S)["seconds"]
        _sleep(warm_up_s, coordinator)
        log = folder / "coordinator.log"
        made = _versions(log)
        began_s, busy = time.monotonic(), {name: busy_s(pid) for name, pid in pids.items()}
        swarm.say("begin")
        looks: dict[str, list[Memory]] = {"coordinator": [], "broker": []}
        for _ in range(LOOKS):
            _sleep(seconds / LOOKS, coordinator)
            for name, found in looks.items():
                found.append(memory_of(pids[name]))
        swarm.say("tell")
        lasted_s = time.monotonic() - began_s
        spent = {name: busy_s(pid) - busy[name] for name, pid in pids.items()}
        told = swarm.answer(ANSWER_S)
        versions = _versions(log) - made
    if told["troubles"]:
        raise Failure(ExitCode.FAILURE, f"connections were lost: {told['troubles']}")
    memory = {name: median_memory(found) for name, found in looks.items()}
    return Seen(broker.title, lasted_s, connect_s, told, spent, memory, versions)


def _sleep(seconds: float, coordinator: subprocess.Popen[bytes]) -> None:
    time.sleep(seconds)
    if coordinator.poll() is not None:
        raise Failure(ExitCode.FAILURE, f"the coordinator ended with {coordinator.returncode}")


def _versions(log: Path) -> int:
    return log.read_text(errors="replace").count("version made")


@contextmanager
def _coordinator(fleet: Fleet, link: Link, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = CoordinatorSettings.model_validate(
        {
            "link": link.model_dump(),
            "state_dir": folder / "coordinator",
            "insecure": True,
            "reporting": {"wandb": "off"},
            "training": {"codec": fleet.codec},
            "aggregation": {
                "buffer_size": fleet.buffer_size,
                "cooldown": 0,  # all devices are as fast as all others
                "max_staleness": 1000,
                # Idle devices are to wait for ever, for one more that never comes.
                "wait_for": fleet.devices + fleet.idle,
            },
        }
    )
    environment = to_environment(settings) | {"STUB_ELEMENTS": str(fleet.elements)}
    command = [sys.executable, str(STUB_ROLE), "coordinator", "run"]
    with (folder / "coordinator.log").open("wb") as log:
        process = subprocess.Popen(command, env=environment, stderr=log)
    try:
        yield process
    finally:
        _end(process)


class _Swarm:
    """A swarm in a process of its own, and the words with it."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.pid = process.pid

    @classmethod
    @contextmanager
    def started(cls, fleet: Fleet, link: Link) -> Iterator[_Swarm]:
        words: Sequence[object] = (
            *("--host", link.host, "--port", link.port, "--devices", fleet.devices),
            *("--elements", fleet.elements, "--codec", fleet.codec, "--think-s", fleet.think_s),
            *(() if fleet.fetches else ("--no-fetch",)),
        )
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.swarm", *map(str, words)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        )
        try:
            yield cls(process)
        finally:
            _end(process)

    def say(self, word: str) -> None:
        """Say a word to it."""
        stream = self._process.stdin
        assert stream is not None
        stream.write(f"{word}\n")
        stream.flush()

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """What it says next."""
        stream = self._process.stdout
        assert stream is not None
        line = _line_of(stream, timeout_s)
        if not line:
            raise Failure(ExitCode.FAILURE, "the swarm ended, or does not answer")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _line_of(stream: IO[str], timeout_s: float) -> str:
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return stream.readline() if selector.select(timeout_s) else ""


def _end(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
