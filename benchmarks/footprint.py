"""What Flockwise takes of a device: memory, wake-ups, what grows, and what is written to its disk.

python -m benchmarks.footprint [--part idle] [--part training] ... [--quick] [--json]

Real roles on a real mosquitto on loopback. Tables go to stdout, and a row for each part to
benchmarks/results/footprint.jsonl. docs/footprint.md tells what the figures mean.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.entry import as_command
from benchmarks.footprint_growth import grow, growth_table
from benchmarks.footprint_idle import SETTLING_S, idle_agents, idle_table
from benchmarks.footprint_imports import imports_table, loaded_parts
from benchmarks.footprint_training import training_cost, training_table
from benchmarks.footprint_writes import count_writes, writes_table
from benchmarks.machine import machine
from broker.start import RunningBroker, start
from config.settings import BrokerSettings

RESULTS = Path(__file__).with_name("results") / "footprint.jsonl"


@dataclass(frozen=True, slots=True)
class Effort:
    """How long and how often to look."""

    runs: int
    idle_agents: int
    idle_s: float
    settling_s: float
    training_s: float
    examples: int
    versions: int
    sample_every: int
    written_versions: int


WHOLE = Effort(5, 3, 180.0, SETTLING_S, 10.0, 5000, 10_000, 500, 20)
QUICK = Effort(1, 1, 5.0, 1.0, 3.0, 256, 40, 10, 2)


@dataclass(frozen=True, slots=True)
class Finding:
    """A table for people, and what it was made of."""

    table: str
    rows: list[Any]


def _imports(effort: Effort) -> Finding:
    parts = loaded_parts(effort.runs)
    return Finding(imports_table(parts), parts)


def _idle(effort: Effort) -> Finding:
    rows = _with_broker(
        lambda broker, folder: idle_agents(
            broker, folder, effort.idle_agents, effort.idle_s, effort.settling_s
        )
    )
    return Finding(idle_table(rows), rows)


def _training(effort: Effort) -> Finding:
    def once(broker: RunningBroker, folder: Path) -> Any:
        return training_cost(broker, folder, effort.examples, effort.training_s)

    costs = [_with_broker(once) for _ in range(effort.runs)]
    return Finding(training_table(costs), costs)


def _growth(effort: Effort) -> Finding:
    began_s = time.monotonic()
    samples = _with_broker(
        lambda broker, folder: grow(broker, folder, effort.versions, effort.sample_every, _tell)
    )
    text = f"{growth_table(samples)}\n\n{time.monotonic() - began_s:.0f} s in all"
    return Finding(text, samples)


def _writes(effort: Effort) -> Finding:
    count = effort.written_versions
    rows = _with_broker(lambda broker, folder: count_writes(broker, folder, count, epochs=1))
    # Long enough, on a slow core too, to be saved on the way.
    rows += _with_broker(
        lambda broker, folder: count_writes(broker, folder, count, epochs=6, checkpoint_s=1.0)
    )
    return Finding(writes_table(rows), rows)


PARTS: dict[str, Callable[[Effort], Finding]] = {
    "imports": _imports,
    "idle": _idle,
    "training": _training,
    "growth": _growth,
    "writes": _writes,
}


def main(argv: Sequence[str]) -> int:
    """Measure what is asked for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.footprint")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this; may be repeated")
    parser.add_argument("--quick", action="store_true", help="seconds: to see that it works")
    parser.add_argument("--json", action="store_true", help="print the rows, not the tables")
    options = parser.parse_args(argv)
    os.environ.setdefault("STUB_ELEMENTS", "1000")
    effort = QUICK if options.quick else WHOLE
    for name in options.part or PARTS:
        finding = PARTS[name](effort)
        row = {
            "part": name,
            "quick": options.quick,
            "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "machine": machine(),
            "load": round(os.getloadavg()[1], 1),
            "effort": asdict(effort),
            "rows": [asdict(one) for one in finding.rows],
        }
        if not options.quick:
            RESULTS.parent.mkdir(exist_ok=True)
            with RESULTS.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(json.dumps(row) if options.json else f"\n## {name}\n\n{finding.table}", flush=True)
    return 0


def _with_broker(measure: Callable[[RunningBroker, Path], Any]) -> Any:
    with tempfile.TemporaryDirectory(prefix="footprint-") as name:
        folder = Path(name)
        settings = BrokerSettings(kind="mosquitto", port=0, insecure=True)
        with start(settings, folder / "broker") as broker:
            return measure(broker, folder)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    as_command(main)
