"""What the robust rules take: time and memory for updates of a small and of a large model.

python -m benchmarks.robust_rules [--quick] [--json]

One process and one thread. The table goes to stdout, a row for each run of this to
benchmarks/results/robust_rules.jsonl. A fifth of the rows are hostile: turned round, five times as
long.
"""

from __future__ import annotations

import argparse
import json
import os
import time
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median as middle

import numpy as np

from benchmarks.entry import as_command
from benchmarks.machine import machine
from coordinator.aggregation import weighted_mean
from coordinator.robust import (
    Rows,
    assumed_hostile,
    geometric_median,
    median,
    multi_krum,
    trimmed_mean,
)

RESULTS = Path(__file__).with_name("results") / "robust_rules.jsonl"
SMALL, LARGE = 156_170, 6_500_000
MIB = 2**20


@dataclass(frozen=True, slots=True)
class Cost:
    """One rule on n updates of size d.

    Attributes:
        seconds: of each run.
        rows_bytes: what the rule needs to have in memory before it begins.
        more_bytes: the most that it took on top, its result included.
    """

    rule: str
    n: int
    d: int
    seconds: list[float]
    rows_bytes: int
    more_bytes: int


def _mean(rows: Rows, hostile: int) -> None:
    weighted_mean(((row, 1.0, 1.0) for row in rows), rows.shape[1])


RULES: dict[str, Callable[[Rows, int], object]] = {
    "mean, clipped_mean": _mean,
    "trimmed_mean": trimmed_mean,
    "median": lambda rows, hostile: median(rows),
    "geometric_median": lambda rows, hostile: geometric_median(rows),
    "multi_krum": multi_krum,
}


def costs(sizes: Sequence[tuple[int, int]], runs: int) -> Iterator[Cost]:
    """Each rule for each (n, d)."""
    for n, d in sizes:
        rows = np.random.default_rng(n).standard_normal((n, d), dtype=np.float32)
        hostile = assumed_hostile(0.2, n)
        rows[:hostile] *= -5
        for name, rule in RULES.items():
            streams = rule is _mean
            seconds = [_seconds(rule, rows, hostile) for _ in range(runs)]
            held = rows.nbytes // n if streams else rows.nbytes
            yield Cost(name, n, d, seconds, held, _most_bytes(rule, rows, hostile))


def table(found: Sequence[Cost]) -> str:
    """For people."""
    lines = ["| rule | n | d | time, s (all runs) | rows, MiB | on top, MiB |", "|---" * 6 + "|"]
    for cost in found:
        spread = f"{min(cost.seconds):.3f} to {max(cost.seconds):.3f}"
        lines.append(
            f"| {cost.rule} | {cost.n} | {cost.d:,} | {middle(cost.seconds):.3f} ({spread}) "
            f"| {cost.rows_bytes / MIB:,.1f} | {cost.more_bytes / MIB:,.1f} |"
        )
    return "\n".join(lines)


def _seconds(rule: Callable[[Rows, int], object], rows: Rows, hostile: int) -> float:
    began_s = time.perf_counter()
    rule(rows, hostile)
    return time.perf_counter() - began_s


def _most_bytes(rule: Callable[[Rows, int], object], rows: Rows, hostile: int) -> int:
    # Slower, so not in the runs that are timed; and what a rule holds is soon held.
    tracemalloc.start()
    try:
        rule(rows, hostile)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def main(argv: Sequence[str]) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.robust_rules")
    parser.add_argument("--quick", action="store_true", help="a second: to see that it works")
    parser.add_argument("--json", action="store_true", help="print the rows, not the table")
    options = parser.parse_args(argv)
    sizes = [(n, d) for d in ((SMALL,) if options.quick else (SMALL, LARGE)) for n in (10, 50)]
    found = list(costs(sizes, 1 if options.quick else 3))
    row = {
        "quick": options.quick,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load": round(os.getloadavg()[1], 1),
        "rows": [asdict(one) for one in found],
    }
    if not options.quick:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a") as file:
            file.write(json.dumps(row) + "\n")
    print(json.dumps(row) if options.json else table(found))
    return 0


if __name__ == "__main__":
    as_command(main)
