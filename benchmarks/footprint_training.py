"""What an agent that trains takes, beside a bare process that trains the same model alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gauges import MIB, Memory, child_of, median_memory, memory_of
from broker.start import RunningBroker
from tests.processes import Role, a_chunk, a_coordinator, an_agent, wait_until

MODEL = "fast-cnn"
SETTLING_S = 2.0
SAMPLE_S = 0.1


@dataclass(frozen=True, slots=True)
class TrainingCost:
    """Medians while a training goes on.

    Attributes:
        bare: a process that does nothing but train.
        bare_tested: one that tests the model first, as agents do.
        agent, worker: the two processes of an agent.
    """

    bare: Memory
    bare_tested: Memory
    agent: Memory
    worker: Memory

    def over(self, kind: str, bare: str = "bare") -> int:
        """Bytes that the agent takes more, of this kind of memory."""
        ours = getattr(self.agent, kind) + getattr(self.worker, kind)
        return int(ours - getattr(getattr(self, bare), kind))


def training_cost(
    broker: RunningBroker, folder: Path, examples: int, seconds: float
) -> TrainingCost:
    """Both, one after the other, each for so long on a chunk of so many images."""
    chunk = a_chunk(folder / "chunk.npz", examples=examples)
    bare = _bare(chunk, seconds)
    tested = _bare(chunk, seconds, "tested")
    training = {"model": MODEL, "epochs": 1000}
    with (
        a_coordinator(broker, folder / "coordinator", training=training),
        an_agent(broker, folder / "agent", chunk, "one", log_level="debug") as role,
    ):
        wait_until(lambda: _trains(role))
        worker = child_of(role.process.pid)
        assert worker is not None
        time.sleep(SETTLING_S)
        pids = role.process.pid, worker
        rows = _sample(lambda: [memory_of(pid) for pid in pids], seconds - SETTLING_S)
    agent, worker_memory = (median_memory(column) for column in zip(*rows, strict=True))
    return TrainingCost(bare, tested, agent, worker_memory)


def _trains(role: Role) -> bool:
    if role.process.poll() is not None:
        raise RuntimeError(f"the agent has ended: {role.raw[-3:]}")
    return any(line.get("phase") == "training" for line in list(role.lines))


def _bare(chunk: Path, seconds: float, *words: str) -> Memory:
    command = [sys.executable, "-m", "benchmarks.bare_training", str(chunk), MODEL]
    process = subprocess.Popen(
        [*command, str(seconds + SETTLING_S), *words],
        stdout=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},  # as a worker
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"training\n"
        time.sleep(SETTLING_S)
        rows = _sample(lambda: [memory_of(process.pid)], seconds - SETTLING_S)
        process.kill()
    return median_memory(row for (row,) in rows)


def _sample(look: Callable[[], list[Any]], seconds: float) -> list[list[Memory]]:
    rows, end_s = [], time.monotonic() + seconds
    while time.monotonic() < end_s:
        rows.append(look())
        time.sleep(SAMPLE_S)
    return rows


def training_table(costs: list[TrainingCost]) -> str:
    """The medians of all runs, in MiB."""
    lines = [
        "| process | RSS | PSS | private (USS) | own (private dirty) |",
        "|---|---|---|---|---|",
    ]
    names = {
        "bare": "bare training",
        "bare_tested": "the same, after a test as agents do",
        "worker": "the agent's worker",
        "agent": "the agent",
    }
    for field, title in names.items():
        one = median_memory(getattr(cost, field) for cost in costs)
        figures = (one.resident, one.proportional, one.private, one.own)
        lines.append(f"| {title} | " + " | ".join(f"{n / MIB:.1f}" for n in figures) + " |")
    lines.append("")
    for bare in ("bare", "bare_tested"):
        over = [cost.over("own", bare) / MIB for cost in costs]
        lines.append(
            f"agent and worker, less {names[bare]}: {statistics.median(over):.1f} MiB "
            f"({min(over):.1f} to {max(over):.1f})"
        )
    return "\n".join(lines)
