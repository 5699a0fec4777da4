"""A federation of real processes that moves models down and updates up when it is told to.

Broker, coordinator and agents are those that anybody runs; only the worker of the agents learns
nothing (`tests.stub_worker`). In each round all devices fetch a version, make an update each and
hold it back; then all are let go at once. What happened when is read from their log lines.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gauges import busy_s
from broker.start import RunningBroker
from federation import credentials
from federation.topics import Topics
from tests.members import Authority
from tests.processes import Role, a_coordinator, an_agent, wait_until
from tests.stub_worker import a_stub_chunk

BROKER, COORDINATOR, DEVICES = "broker", "coordinator", "devices"
GATE = "gate"
# All have offered by then; the coordinator is held until it goes on.
OFFERING_S = 0.3
# What was written is on its way to the disk still.
RESTING_S = 0.5


@dataclass(frozen=True, slots=True)
class Moved:
    """One way of a round.

    Attributes:
        seconds: from the first offer to the last receipt, or from the first header that was heard
            to the last version that was fetched.
        busy_s: seconds of processors, by who was busy.
    """

    seconds: float
    moved_bytes: int
    busy_s: Mapping[str, float]


class House:
    """The federation, with all its devices waiting for version 0 or fetching it."""

    def __init__(
        self, broker: RunningBroker, coordinator: Role, agents: list[Role], folder: Path, size: int
    ) -> None:
        self._broker = broker
        self._coordinator = coordinator
        self._agents = agents
        self._folder = folder
        self._moved_bytes = size * len(agents)
        self._rounds = 0
        self._busy_before = self._busy_s()

    def down(self) -> Moved:
        """Wait until all have fetched the version that is published."""
        times = self._rounds + 1
        fetched = [agent.wait_for("version fetched", times) for agent in self._agents]
        heard = [agent.told("version announced")[times - 1] for agent in self._agents]
        seconds = max(_times(fetched)) - min(_times(heard))
        return Moved(seconds, self._moved_bytes, self._busy_since())

    def rest(self) -> None:
        """Wait until all have made their update, and nobody does anything any more."""
        made = [
            self._folder / _device(number) / "outbox" / f"{self._rounds}.update"
            for number in range(len(self._agents))
        ]
        wait_until(lambda: all(path.exists() for path in made))
        time.sleep(RESTING_S)

    def up(self) -> Moved:
        """Let all deliver their update; the next version is made of them then."""
        self._busy_since()
        is_crowd = len(self._agents) > 1
        if is_crowd:
            self._coordinator.process.send_signal(signal.SIGSTOP)
        (self._folder / GATE).write_text(str(self._rounds))
        self._rounds += 1
        offered = [agent.wait_for("update in outbox", self._rounds) for agent in self._agents]
        began_s = min(_times(offered))
        if is_crowd:
            time.sleep(OFFERING_S)
            self._busy_since()
            began_s = time.time()
            self._coordinator.process.send_signal(signal.SIGCONT)
        # It says so as the receipt leaves; a device, once its outbox has forgotten the update.
        receipted = self._coordinator.wait_for("update accepted", self._rounds * len(self._agents))
        moved = Moved(receipted["time"] - began_s, self._moved_bytes, self._busy_since())
        for agent in self._agents:
            agent.wait_for("update accepted", self._rounds)
        return moved

    def _busy_s(self) -> dict[str, float]:
        return {
            BROKER: busy_s(self._broker.pid),
            COORDINATOR: busy_s(self._coordinator.process.pid),
            DEVICES: sum(busy_s(agent.process.pid) for agent in self._agents),
        }

    def _busy_since(self) -> dict[str, float]:
        before, self._busy_before = self._busy_before, self._busy_s()
        return {name: now - before[name] for name, now in self._busy_before.items()}


@contextmanager
def a_house(
    broker: RunningBroker,
    folder: Path,
    devices: int,
    size: int,
    chunk_bytes: int,
    *,
    sealed: bool = False,
) -> Iterator[House]:
    """The processes, started; they end with the context.

    Args:
        folder: an empty directory for everything.
        size: bytes of a model, and of an update, in float32.
        sealed: all are members: they sign and seal.
    """
    os.environ["STUB_ELEMENTS"] = str(size // 4)
    gate = folder / GATE
    gate.write_text("-1")
    authority = Authority(Topics("flockwise", "default"))

    def membership(device: str) -> dict[str, Any]:
        if not sealed:
            return {}
        keys = folder / "keys" / device
        subject = credentials.COORDINATOR if device == COORDINATOR else device
        authority.membership(keys, subject, port=broker.port)
        return {"membership": keys}

    transfer = {"chunk_bytes": chunk_bytes}
    with ExitStack() as closing:
        coordinator = a_coordinator(
            broker,
            folder / COORDINATOR,
            stub=True,
            keep_versions=2,
            aggregation={"buffer_size": devices, "deadline_s": None, "wait_for": devices},
            training={"codec": "float32"},
            transfer=transfer,
            **membership(COORDINATOR),
        )
        closing.enter_context(coordinator)
        agents = []
        for number in range(devices):
            device = _device(number)
            chunk = a_stub_chunk(folder / f"{device}.npz", updates=10**9, gate=gate)
            state, own = folder / device, membership(device)
            agent = an_agent(broker, state, chunk, device, stub=True, transfer=transfer, **own)
            agents.append(closing.enter_context(agent))
        yield House(broker, coordinator, agents, folder, size)


def _device(number: int) -> str:
    return f"device-{number}"


def _times(lines: list[dict[str, Any]]) -> list[float]:
    return [line["time"] for line in lines]
