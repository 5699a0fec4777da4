"""A federation of real processes made from the settings of a simulation, and what it did when.

Broker, coordinator and agents run on this machine as `flockwise demo` runs them, on the chunks that
`lab partition` makes; devices are called as simulated ones are, as their names decide how they
train. What happened is read from the lines that the processes log.
"""

from __future__ import annotations

import sqlite3
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from broker.start import start as start_broker
from config.failures import ExitCode, Failure
from config.reporting import Reporting
from config.settings import AgentSettings, BrokerSettings, CoordinatorSettings, Link, Transfer
from config.simulation import SimulationSettings
from coordinator.record import LEDGER
from coordinator.reporting import rows_in
from coordinator.versions import Versions
from experiments.children import Children, flockwise_command
from experiments.partitioning import TEST_SET, write_partition
from experiments.roles import link_to
from experiments.scoreboard import Ended, Line
from experiments.settings_file import write_settings
from experiments.simulation.run import coordinator_settings, device_names
from federation.compression import Vector
from federation.layout import Layout
from learning.data import ImageSet

COORDINATOR = "coordinator"
TICK_S = 0.05
MOST_KEPT = 100

# Device, sequence, base version.
Part = tuple[str, int, int]


@dataclass(frozen=True, slots=True)
class Tested:
    """A version that was tested: when it was made and when the test was over, since version 0."""

    version: int
    made_s: float
    tested_s: float
    accuracy: float


@dataclass(slots=True)
class Real:
    """What processes did.

    Attributes:
        ending: versions (all were made), target, time (the limit), or what went wrong.
        seconds: since version 0 was published.
        lines: what was logged, by whom.
        state: the coordinator's state directory.
    """

    ending: str = ""
    seconds: float = 0.0
    lines: list[Line] = field(default_factory=list)
    tested: list[Tested] = field(default_factory=list)
    made_s: dict[int, float] = field(default_factory=dict)
    began_s: float | None = None
    state: Path = Path()

    def told(self, source: str, text: str) -> Iterator[Line]:
        """The lines with this text, of a device or the coordinator."""
        return (line for line in self.lines if (line.source, line.text) == (source, text))

    def made(self) -> dict[int, tuple[Part, ...]]:
        """What each version is made of, as the ledger says, in the order of the sum."""
        ledger = sqlite3.connect(self.state / LEDGER)
        rows = ledger.execute(
            "SELECT version, device, sequence, base_version FROM contributions"
            " JOIN updates USING (entry) ORDER BY version, position"
        ).fetchall()
        ledger.close()
        parts: dict[int, list[Part]] = defaultdict(list)
        for version, *part in rows:
            parts[version].append(tuple(part))
        return {version: tuple(parts[version]) for version in sorted(parts)}

    def rows(self) -> Iterator[dict[str, Any]]:
        """The coordinator's reports."""
        return rows_in(self.state / "reports.jsonl")

    def model(self, version: int, layout: Layout) -> Vector:
        """A version, Float32[d]."""
        folder = Versions(self.state / "versions", chunk_bytes=Transfer().chunk_bytes)
        return folder.load(version, layout)[0]

    def hear(self, line: Line) -> None:
        """Take a line in."""
        self.lines.append(line)
        if line.source != COORDINATOR:
            return
        version = line.facts.get("version")
        match line.text:
            case "version published" if version == 0:
                self.began_s = self.began_s or line.time_s
                self.made_s[0] = 0.0
            case "version made" if version is not None:
                self.made_s[version] = self._since(line)
            case "version evaluated" if version is not None:
                made_s, tested_s = self.made_s.get(version, 0.0), self._since(line)
                self.tested.append(Tested(version, made_s, tested_s, line.facts["accuracy"]))

    def _since(self, line: Line) -> float:
        return line.time_s - (self.began_s or line.time_s)


def run_for_real(
    settings: SimulationSettings,
    images: ImageSet,
    folder: Path,
    *,
    slowdowns: Mapping[str, float],
    outbox_limit: int,
    yields: int = 0,
) -> Real:
    """Let it happen until all versions are made, the target is reached, or time is over.

    Args:
        folder: an empty directory for everything; it stays.
        slowdowns: how many times slower some devices are.
        outbox_limit: updates that a device keeps for delivery.
        yields: niceness of the agents beside the coordinator, whose tests go first then, as on a
            machine of its own.

    Raises:
        Failure: a process cannot be started.
    """
    write_partition(
        images, folder, settings.partition, devices=settings.devices, seed=settings.seed
    )
    broker_settings = BrokerSettings(port=0, insecure=True)
    (folder / "broker").mkdir()
    with start_broker(broker_settings, folder / "broker") as broker, Children() as children:
        link = link_to(broker.host, broker.port)
        roles: dict[str, AgentSettings | CoordinatorSettings] = {
            COORDINATOR: _coordinator(settings, link, folder)
        }
        for index, device in enumerate(device_names(settings.devices)):
            roles[device] = AgentSettings(
                device=device,
                chunk=folder / f"device-{index:03d}.npz",
                state_dir=folder / device,
                slowdown=slowdowns.get(device, 1.0),
                threads=1,
                outbox_limit=outbox_limit,
                insecure=True,
                link=link,
                log_format="json",
            )
        for name, role in roles.items():
            _start(children, name, role, folder, 0 if name == COORDINATOR else yields)
        real = _watch(children, settings)
    real.state = folder / COORDINATOR
    return real


def _coordinator(settings: SimulationSettings, link: Link, folder: Path) -> CoordinatorSettings:
    told = coordinator_settings(settings)
    return told.model_copy(
        update={
            "link": link,
            "state_dir": folder / COORDINATOR,
            "test_set": folder / TEST_SET,
            "keep_versions": max(told.keep_versions, min(settings.versions, MOST_KEPT) + 1),
            "insecure": True,
            "log_format": "json",
            "reporting": Reporting(wandb="off"),
            "aggregation": told.aggregation.model_copy(update={"wait_for": settings.devices}),
        }
    )


def _start(
    children: Children,
    name: str,
    role: AgentSettings | CoordinatorSettings,
    folder: Path,
    niceness: int,
) -> None:
    kind = "agent" if isinstance(role, AgentSettings) else "coordinator"
    file = folder / f"{name}.toml"
    write_settings(file, role, f"{name} of a benchmark")
    command = flockwise_command([kind, "run", "--config", str(file)])
    children.start(name, ["nice", "-n", str(niceness), *command], folder / f"{name}.log")


def _watch(children: Children, settings: SimulationSettings) -> Real:
    real, started_s = Real(), time.time()
    while not real.ending:
        time.sleep(TICK_S)
        for event in children.poll():
            if isinstance(event, Line):
                real.hear(event)
            else:
                real.ending = real.ending or _ending(event, real, settings)
        real.seconds = time.time() - (real.began_s or started_s)
        if real.ending:
            continue
        target = settings.target
        if target is not None and any(one.accuracy >= target for one in real.tested):
            real.ending = "target"
        elif real.seconds > settings.limit_s:
            real.ending = "time"
    return real


def _ending(end: Ended, real: Real, settings: SimulationSettings) -> str:
    done = max(real.made_s, default=0) >= settings.versions
    if end.source == COORDINATOR and end.status == ExitCode.OK and done:
        return "versions"
    return f"{end.source} {end.how}: {' '.join(end.last_lines[-1:])}"


@contextmanager
def succeeded(real: Real) -> Iterator[Real]:
    """What came of a run that went as it should.

    Raises:
        Failure: something ended that should not have.
    """
    if real.ending not in ("versions", "target", "time"):
        raise Failure(ExitCode.FAILURE, f"the federation did not go on: {real.ending}")
    yield real


def as_facts(real: Real) -> list[dict[str, Any]]:
    """The tested versions, as rows of results have them."""
    return [
        {
            "version": one.version,
            "made_s": round(one.made_s, 2),
            "tested_s": round(one.tested_s, 2),
            "accuracy": one.accuracy,
        }
        for one in real.tested
    ]
