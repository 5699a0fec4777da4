"""What a version and an update write to disk: at the agent and at the coordinator.

Counted twice: what the processes had the kernel write (`write_bytes` of /proc, whole pages), and
what reached a file system of their own, with its journal.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.disks import Disk, a_disk
from benchmarks.gauges import child_of, written_bytes
from broker.start import RunningBroker
from federation.sizes import encoded_size
from tests.processes import Role, a_chunk, a_coordinator, an_agent, wait_until

WARM = 2
EXAMPLES = 512


@dataclass(frozen=True, slots=True)
class Writes:
    """Bytes written per version, of which each is made of one update.

    Attributes:
        role: agent or coordinator.
        saved: how often a training was saved on the way, on average.
        processes: counted by the kernel for the role and its worker.
        disk: what reached the disk; None where it was not counted.
        computed: what the files take whose sizes follow from the model.
    """

    role: str
    elements: int
    codec: str
    saved: float
    processes: float
    disk: float | None
    computed: int


def agent_bytes(elements: int, codec: str, saved: float = 0, momentum: bool = False) -> int:
    """The files that an agent writes for one version and its update, without its database.

    Args:
        saved: how often the training was saved on the way.
    """
    encoded, whole = encoded_size(codec, elements), encoded_size("float32", elements)
    residual = whole if encoded != whole else 0
    return whole + encoded + residual + round(saved * whole * (2 if momentum else 1))


def coordinator_bytes(elements: int, codec: str, updates: int = 1, states: int = 0) -> int:
    """The files that a coordinator writes for one version of so many updates.

    Args:
        states: vectors that the server's step remembers: 0 for sgd, 1 for momentum, 2 for adam.
    """
    whole = encoded_size("float32", elements)
    return updates * encoded_size(codec, elements) + (2 + states) * whole


def count_writes(
    broker: RunningBroker, folder: Path, versions: int, *, epochs: float, checkpoint_s: float = 60.0
) -> list[Writes]:
    """Let one agent with torch make so many versions of the built-in CNN, after some to warm up."""
    chunk = a_chunk(folder / "chunk.npz", examples=EXAMPLES)
    training = {"model": "fast-cnn", "epochs": epochs}
    with (
        a_disk(folder / "agent-disk") as at_agent,
        a_disk(folder / "coordinator-disk") as at_coordinator,
        a_coordinator(
            broker,
            at_coordinator.folder / "state",
            training=training,
            aggregation={"trigger": "immediate", "cooldown": 0},
        ) as coordinator,
        an_agent(
            broker, at_agent.folder / "state", chunk, "one", checkpoint_s=checkpoint_s
        ) as agent,
    ):
        elements = coordinator.wait_for("version published")["bytes"] // 4
        saved = _Saves(at_agent.folder / "state" / "model" / "training")
        _wait(coordinator, agent, WARM, saved)
        before = _counts(agent, coordinator, at_agent, at_coordinator)
        made, saved.count = _made(coordinator), 0
        for goal in range(made + 1, made + versions + 1):
            _wait(coordinator, agent, goal, saved)
        after = _counts(agent, coordinator, at_agent, at_coordinator)
        made = _made(coordinator) - made
    saves = saved.count / made
    computed = {
        "agent": agent_bytes(elements, "int8", saves),
        "coordinator": coordinator_bytes(elements, "int8"),
    }
    found = []
    for role, files in computed.items():
        (by_us, on_disk), (by_us_then, on_disk_then) = after[role], before[role]
        reached = (
            None if on_disk is None or on_disk_then is None else (on_disk - on_disk_then) / made
        )
        row = Writes(role, elements, "int8", saves, (by_us - by_us_then) / made, reached, files)
        found.append(row)
    return found


class _Saves:
    """How often a file was replaced, as far as somebody looks often enough."""

    def __init__(self, path: Path) -> None:
        self.count = 0
        self._path = path
        self._seen = 0

    def look(self) -> None:
        try:
            now = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        self.count += int(now != self._seen)
        self._seen = now


def _wait(coordinator: Role, agent: Role, goal: int, saved: _Saves) -> None:
    def is_made() -> bool:
        saved.look()
        for role in (coordinator, agent):
            if role.process.poll() is not None:
                raise RuntimeError(f"a role has ended: {role.raw[-3:]}")
        return _made(coordinator) >= goal

    wait_until(is_made)
    time.sleep(0.2)  # for its announcement


def _made(coordinator: Role) -> int:
    return len(coordinator.told("version made"))


def _counts(
    agent: Role, coordinator: Role, at_agent: Disk, at_coordinator: Disk
) -> dict[str, tuple[int, int | None]]:
    def of(role: Role, disk: Disk) -> tuple[int, int | None]:
        pid = role.process.pid
        worker = child_of(pid)
        total = written_bytes(pid) + (written_bytes(worker) if worker is not None else 0)
        return total, disk.written_bytes()

    return {"agent": of(agent, at_agent), "coordinator": of(coordinator, at_coordinator)}


def writes_table(rows: list[Writes]) -> str:
    """What was counted beside what the files take, in KB."""
    lines = [
        "| role | d | saves on the way | files, computed | processes, counted | disk, counted |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        disk = "not counted" if row.disk is None else f"{row.disk / 1000:,.0f} KB"
        lines.append(
            f"| {row.role} | {row.elements:,} | {row.saved:.1f} | {row.computed / 1000:,.0f} KB "
            f"| {row.processes / 1000:,.0f} KB | {disk} |"
        )
    return "\n".join(lines)
