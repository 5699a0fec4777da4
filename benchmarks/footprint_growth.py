"""What grows over thousands of versions: memory, open files and the ledger, sample by sample.

Two agents with the trainer of the tests that needs no torch, a version for each update, a tiny
model: what a version costs beside its numbers is what could add up.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.gauges import KIB, MIB, memory_of, open_files, written_bytes
from broker.start import RunningBroker
from tests.processes import Role, a_coordinator, an_agent
from tests.stub_worker import a_stub_chunk

DEVICES = ("one", "two")
STALLED_S = 60.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One process after so many versions; sizes in bytes."""

    versions: int
    role: str
    resident: int
    private: int
    own: int
    files: int
    written: int
    ledger: int
    reports: int
    other: int


def grow(
    broker: RunningBroker,
    folder: Path,
    versions: int,
    every: int,
    tell: Callable[[str], object] = lambda _: None,
) -> list[Sample]:
    """Make so many versions and look at all processes every so often.

    Args:
        tell: told how far it is.
    """
    samples: list[Sample] = []
    with a_coordinator(
        broker,
        folder / "coordinator",
        stub=True,
        aggregation={"trigger": "immediate", "cooldown": 0},
        training={"codec": "float32"},
    ) as coordinator:
        agents = []
        try:
            for device in DEVICES:
                chunk = a_stub_chunk(folder / f"{device}.npz", updates=10**9)
                agents.append(an_agent(broker, folder / device, chunk, device, stub=True))
            roles = {"coordinator": coordinator, **dict(zip(DEVICES, agents, strict=True))}
            pids = {name: role.process.pid for name, role in roles.items()}
            pids["broker"] = broker.pid
            for goal in range(every, versions + 1, every):
                made = _wait_for(coordinator, agents, goal)
                for name, pid in pids.items():
                    samples.append(_look(name, pid, folder / name, made))
                tell(f"{made} versions")
        finally:
            for agent in agents:
                agent.__exit__(None, None, None)
    return samples


def _wait_for(coordinator: Role, agents: list[Role], goal: int) -> int:
    """Wait for that version; the newest one then."""
    made, moved_s = 0, time.monotonic()
    while made < goal:
        time.sleep(0.02)
        newest = _newest(coordinator)
        if newest > made:
            made, moved_s = newest, time.monotonic()
        for role in (coordinator, *agents):
            if role.process.poll() is not None:
                raise RuntimeError(f"a role has ended: {role.raw[-3:]}")
        if time.monotonic() - moved_s > STALLED_S:
            raise RuntimeError(f"no version after {made}: {coordinator.raw[-3:]}")
    return made


def _newest(coordinator: Role) -> int:
    for line in reversed(coordinator.lines):
        if line["text"] == "version made":
            return int(line["version"])
    return 0


def _look(role: str, pid: int, folder: Path, made: int) -> Sample:
    memory = memory_of(pid)
    ledger = folder_bytes(folder, "ledger.sqlite")
    reports = folder_bytes(folder, "reports.jsonl")
    return Sample(
        versions=made,
        role=role,
        resident=memory.resident,
        private=memory.private,
        own=memory.own,
        files=open_files(pid),
        written=written_bytes(pid),
        ledger=ledger,
        reports=reports,
        other=folder_bytes(folder, "**/*") - ledger - reports,
    )


def folder_bytes(folder: Path, *patterns: str) -> int:
    """What the files of these names take."""
    total = 0
    for pattern in patterns:
        for path in folder.glob(pattern):
            try:
                total += path.stat().st_size if path.is_file() else 0
            except FileNotFoundError:
                continue
    return total


def slope(samples: list[Sample], role: str, field: str) -> float:
    """Growth of a figure over a thousand versions: least squares over the latter half."""
    mine = [sample for sample in samples if sample.role == role]
    late = mine[len(mine) // 2 :]
    if len(late) < 2:
        return 0.0
    mean_x = sum(one.versions for one in late) / len(late)
    mean_y = sum(getattr(one, field) for one in late) / len(late)
    above = sum((one.versions - mean_x) * (getattr(one, field) - mean_y) for one in late)
    return float(1000 * above / sum((one.versions - mean_x) ** 2 for one in late))


def growth_table(samples: list[Sample]) -> str:
    """The samples, and below them how much grows at the end."""
    names = list(dict.fromkeys(sample.role for sample in samples))
    lines = [
        "private memory in MiB, open files:",
        "",
        "| versions | " + " | ".join(names) + " |",
        "|---" * (len(names) + 1) + "|",
    ]
    for versions in dict.fromkeys(sample.versions for sample in samples):
        now = [one for one in samples if one.versions == versions]
        cells = " | ".join(f"{one.private / MIB:.2f}, {one.files}" for one in now)
        lines.append(f"| {versions:,} | {cells} |")
    lines += [
        "",
        "over the latter half, for a thousand versions, in KiB:",
        "",
        "| | private | RSS | written | ledger | reports | other files |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        fields = ("private", "resident", "written", "ledger", "reports", "other")
        cells = " | ".join(f"{slope(samples, name, field) / KIB:,.1f}" for field in fields)
        lines.append(f"| {name} | {cells} |")
    return "\n".join(lines)
