"""Rounds without training by Flockwise: mosquitto, a coordinator and agents, all real processes."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.overhead_figures import (
    Found,
    Looks,
    Work,
    link_between,
    moved_right,
    rounds_between,
)
from benchmarks.overhead_task import STEP, TASK, beginning, step_of
from benchmarks.relay import Relay
from broker.start import start as start_broker
from config.failures import ExitCode, Failure
from config.reporting import Reporting
from config.settings import (
    AgentSettings,
    BrokerSettings,
    CoordinatorSettings,
    Link,
    Settings,
)
from experiments.children import Children, flockwise_command
from experiments.roles import link_to
from experiments.scoreboard import Ended, Line
from experiments.settings_file import write_settings

SYSTEM = "Flockwise"
COORDINATOR = "coordinator"
LIMIT_S = 300.0
TICK_S = 0.02


def run(work: Work, folder: Path) -> Found:
    """Make so many versions of a model, each of updates of all agents.

    Raises:
        Failure: something did not go as it should, or there is no mosquitto.
    """
    names = [f"device-{index}" for index in range(work.clients)]
    (folder / "broker").mkdir(parents=True)
    with ExitStack() as stack:
        listening = BrokerSettings(kind="mosquitto", port=0, insecure=True)
        broker = stack.enter_context(start_broker(listening, folder / "broker"))
        relay = stack.enter_context(Relay(broker.host, broker.port))
        children = stack.enter_context(Children())
        direct, counted = link_to(broker.host, broker.port), link_to("127.0.0.1", relay.port)
        for index, name in enumerate(names):
            (folder / f"{name}.chunk").write_text(str(step_of(index, work.clients)))
            link = direct if index else counted
            _start(children, name, "agent", _agent(name, folder, link), folder)
        _start(children, COORDINATOR, "coordinator", _coordinator(work, folder, direct), folder)
        parts = {
            "serving": (broker.pid, children.pid(COORDINATOR)),
            "clients": tuple(map(children.pid, names)),
        }
        looks = stack.enter_context(Looks(parts, training="learning.worker"))
        times_s = _watch(children, work, looks)
        cpu_s, memory = looks.cpu_s(), looks.memory()
        link_bytes = link_between(relay, times_s)
    _see_the_model(folder / COORDINATOR / "versions", work)
    return Found(
        SYSTEM, work, rounds_between(times_s), link_bytes, cpu_s / (work.rounds - 1), memory
    )


def _agent(name: str, folder: Path, link: Link) -> AgentSettings:
    return AgentSettings(
        device=name,
        chunk=folder / f"{name}.chunk",
        state_dir=folder / name,
        task=TASK,
        threads=1,
        insecure=True,
        link=link,
        log_format="json",
    )


def _coordinator(work: Work, folder: Path, link: Link) -> CoordinatorSettings:
    # What is not set is the strategy's.
    whole: dict[str, Any] = {
        "strategy": "fedavg",
        "task": TASK,
        "state_dir": folder / COORDINATOR,
        "insecure": True,
        "link": link,
        "aggregation": {"wait_for": work.clients, "combine": "mean"},
        "training": {"model": str(work.elements), "codec": "float32"},
        "reporting": Reporting(wandb="off"),
        "log_format": "json",
    }
    return CoordinatorSettings(**whole)


def _start(children: Children, name: str, kind: str, role: Settings, folder: Path) -> None:
    file = folder / f"{name}.toml"
    write_settings(file, role, f"{name} of a benchmark")
    command = flockwise_command([kind, "run", "--config", str(file)])
    children.start(name, command, folder / f"{name}.log")


def _watch(children: Children, work: Work, looks: Looks) -> list[float]:
    """Wait for all versions; when the first round began, and when each version was made."""
    times_s: list[float] = []
    end_s = time.monotonic() + LIMIT_S
    while len(times_s) <= work.rounds:
        time.sleep(TICK_S)
        for event in children.poll():
            if isinstance(event, Ended):
                why = f"{event.source} {event.how}: {' '.join(event.last_lines[-1:])}"
                raise Failure(ExitCode.FAILURE, f"the federation did not go on: {why}")
            if _is_mark(event, len(times_s)):
                times_s.append(event.time_s)
        if len(times_s) > 1 and not looks.is_begun:
            looks.begin()
        if time.monotonic() > end_s:
            raise Failure(ExitCode.FAILURE, f"no version {len(times_s)} in {LIMIT_S:g} s")
    return times_s


def _is_mark(line: Line, version: int) -> bool:
    text = "version made" if version else "version published"
    return (line.source, line.text) == (COORDINATOR, text) and line.facts["version"] == version


def _see_the_model(versions: Path, work: Work) -> None:
    """All did their part: else the model is another one."""
    tensors = load_file(versions / f"{work.rounds:06}.safetensors")
    names = sorted(tensors, key=lambda name: int(name.rpartition(".")[2]))
    made = np.concatenate([tensors[name] for name in names])
    moved = made - np.concatenate(beginning(work.elements))
    if not moved_right(float(moved.min()), float(moved.max()), work, STEP):
        raise Failure(ExitCode.FAILURE, "the model is not what the devices' updates make of it")
