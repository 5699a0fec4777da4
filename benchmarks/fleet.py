"""How many devices one coordinator serves: `python -m benchmarks.fleet` (about six minutes).

A real coordinator, mosquitto and a swarm of devices (`benchmarks.swarm`: the agent's own core, a
training that takes no time) on one machine. What is measured, of devices that offer an update of
250 kB again as soon as the last one is receipted and there is a version they have not learned from:
updates a second; seconds from the first offer of an update to its receipt; memory of coordinator
and broker; and who of the three took how much processor time. Then the same at half of that load,
and devices that are merely there. K is a tenth of the fleet; each row is the median of its runs.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.entry import as_command
from benchmarks.fleet_run import Fleet, Seen, look_at
from benchmarks.gauges import MIB
from benchmarks.machine import machine
from benchmarks.swarm import raise_file_limit
from config.failures import ExitCode
from experiments.json_lines import append_line

RESULTS = Path(__file__).parent / "results" / "fleet.jsonl"
ELEMENTS = 62_500
SIZES = (10, 100, 1000)
IDLE = 10_000
REPEATS = 3
SPARE_FILES = 256
DEVICE_BYTES = 20_000
PARTS = ("coordinator", "broker", "swarm")


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the table.

    Attributes:
        half_of: the case of whose throughput this one offers a half.
    """

    name: str
    fleet: Fleet
    seconds: float
    warm_up_s: float
    half_of: str = ""


def cases(*, quick: bool) -> list[Case]:
    """What is run, in this order, once for each repetition."""
    seconds, warm_up_s = (3.0, 1.5) if quick else (6.0, 3.0)
    found = [
        Case(f"closed loop, {size}", Fleet(size, ELEMENTS), seconds, warm_up_s) for size in SIZES
    ]
    if quick:
        return found
    most = Fleet(SIZES[-1], ELEMENTS)
    closed = found[-1].name
    return [
        *found,
        Case("half the load, 1000", most, seconds, 2 * warm_up_s, half_of=closed),
        Case("nothing fetched, 1000", replace(most, fetches=False), seconds, warm_up_s),
        Case("int8, 1000", replace(most, codec="int8"), seconds, warm_up_s),
        Case(f"idle, {IDLE}", Fleet(IDLE, ELEMENTS, idle=True), 4.0, 3.0),
    ]


def run(
    chosen: Sequence[Case], repeats: int, tell: Callable[[str], object]
) -> dict[str, list[Seen]]:
    """Run all cases so often, in turns, so that what disturbs the machine disturbs all of them."""
    seen: dict[str, list[Seen]] = {case.name: [] for case in chosen}
    for _ in range(repeats):
        for case in chosen:
            tell(case.name)
            fleet = case.fleet
            if case.half_of:
                whole = statistics.median(one.updates_s for one in seen[case.half_of])
                fleet = replace(fleet, think_s=fleet.devices / (whole / 2))
            with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
                seen[case.name].append(look_at(fleet, Path(folder), case.seconds, case.warm_up_s))
    return seen


def row_of(case: Case, seen: Sequence[Seen]) -> dict[str, Any]:
    """The medians of the runs of a case, with the spread of the throughput."""
    rates = sorted(one.updates_s for one in seen)

    def median(of: Callable[[Seen], float], digits: int = 3) -> float:
        return round(statistics.median(of(one) for one in seen), digits)

    return {
        "case": case.name,
        "devices": case.fleet.devices,
        "buffer_size": case.fleet.buffer_size,
        "codec": case.fleet.codec,
        "fetches": case.fleet.fetches,
        "runs": len(seen),
        "updates_s": median(lambda one: one.updates_s, 1),
        "updates_s_from_to": [round(rates[0], 1), round(rates[-1], 1)],
        "receipt_p50_s": median(lambda one: one.told["latency_s"]["p50"]),
        "receipt_p99_s": median(lambda one: one.told["latency_s"]["p99"]),
        "offered_again": median(lambda one: one.told["counts"].get("offered_again", 0), 0),
        "put_off": median(lambda one: _put_off(one.told["counts"]), 0),
        "versions_s": median(lambda one: one.versions / one.seconds, 2),
        "cores": {part: median(lambda one, p=part: one.busy_s[p] / one.seconds) for part in PARTS},  # type: ignore[misc]
        "ms_an_update": {
            part: median(lambda one, p=part: _ms_an_update(one, p))  # type: ignore[misc]
            for part in PARTS
        },
        "coordinator_rss": int(median(lambda one: one.memory["coordinator"].resident)),
        "coordinator_uss": int(median(lambda one: one.memory["coordinator"].private)),
        "broker_rss": int(median(lambda one: one.memory["broker"].resident)),
        "broker_uss": int(median(lambda one: one.memory["broker"].private)),
        "connects_s": median(lambda one: case.fleet.devices / one.connect_s, 0),
    }


def _put_off(counts: dict[str, int]) -> int:
    return sum(count for name, count in counts.items() if name.startswith("put off"))


def _ms_an_update(one: Seen, part: str) -> float:
    accepted = one.told["counts"].get("accepted", 0)
    return 1000 * one.busy_s[part] / accepted if accepted else 0.0


def table(rows: Iterable[dict[str, Any]]) -> str:
    """The rows for people."""
    lines = [
        "| what | updates/s | receipt p50, p99 | ms of CPU an update: coordinator, broker, swarm "
        "| cores busy | coordinator RSS, USS | broker USS | connects/s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        low, high = row["updates_s_from_to"]
        spent = ", ".join(f"{row['ms_an_update'][part]:.2f}" for part in PARTS)
        cores = ", ".join(f"{row['cores'][part]:.2f}" for part in PARTS)
        lines.append(
            f"| {row['case']} | {row['updates_s']:.0f} ({low:.0f} to {high:.0f}) "
            f"| {1000 * row['receipt_p50_s']:.0f}, {1000 * row['receipt_p99_s']:.0f} ms "
            f"| {spent} | {cores} "
            f"| {row['coordinator_rss'] / MIB:.1f}, {row['coordinator_uss'] / MIB:.1f} MiB "
            f"| {row['broker_uss'] / MIB:.1f} MiB | {row['connects_s']:.0f} |"
        )
    return "\n".join(lines)


def growth(rows: Sequence[dict[str, Any]]) -> str:
    """How the coordinator's memory grows with the fleet, after what each device may take."""
    closed = [row for row in rows if row["case"].startswith("closed loop")]
    first = closed[0]
    parts = []
    for row in closed[1:]:
        more = DEVICE_BYTES * (row["devices"] - first["devices"])
        ratio = (row["coordinator_uss"] - more) / first["coordinator_uss"]
        parts.append(f"{row['devices']} devices: {ratio - 1:+.1%}")
    return (
        f"memory of the coordinator (USS) less {DEVICE_BYTES // 1000} kB a device, beside that with"
        f" {first['devices']}: {'; '.join(parts)}"
    )


def fsync_ms(folder: Path, size: int = 4 * ELEMENTS) -> float:
    """How long this disk takes to keep a file of so many bytes, in the median of 15."""
    took = []
    for number in range(15):
        with (folder / str(number)).open("wb") as file:
            file.write(bytes(size))
            file.flush()
            begin = time.perf_counter()
            os.fsync(file.fileno())
            took.append(1000 * (time.perf_counter() - begin))
    return round(statistics.median(took), 3)


def main(argv: Sequence[str]) -> int:
    """Run, print the table and append the rows."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fleet", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="once, and shorter (40 seconds)")
    options = parser.parse_args(argv)
    chosen = cases(quick=options.quick)
    raise_file_limit(max(case.fleet.devices for case in chosen) + SPARE_FILES)
    seen = run(chosen, 1 if options.quick else REPEATS, lambda name: print(f"... {name}"))
    with tempfile.TemporaryDirectory(prefix="fleet-") as folder:
        disk_ms = fsync_ms(Path(folder))
    about = {**machine(), "broker": seen[chosen[0].name][0].broker, "fsync_ms": disk_ms}
    rows = [row_of(case, seen[case.name]) for case in chosen]
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    print(table(rows))
    print(growth(rows))
    if not options.quick:
        for row in rows:
            append_line(RESULTS, {**row, **about})
    return ExitCode.OK


if __name__ == "__main__":
    as_command(main)
