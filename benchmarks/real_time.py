"""Real time to an accuracy: asynchronous against synchronous, as processes on this machine.

`python -m benchmarks.real_time --data IMAGES` lets eight agents train, the last two of them ten
times slower, until a version tests at the target; each method with each seed. What all methods have
in common is in benchmarks/federations/real-time.toml. It writes a row for each run to
benchmarks/results/real_time.jsonl and prints the table of what is there. Rows that are there are
not run again, so it can be stopped and continued.

What the number of cores does to it. A straggler sleeps between its steps, nine times as long as
each took, and leaves its core to the others meanwhile. With fewer cores than agents the fast ones
share what there is: a version costs the same work whoever made it, so being asynchronous gains only
what cores would have idled, at the end of each round. There the slow ones have the cores to
themselves and are faster than in a run that never rests. On devices of their own all fast ones
would be as fast as one is here alone, and a round would last ten times that: the gain would be
larger.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.entry import as_command
from benchmarks.machine import machine
from benchmarks.real_federation import Real, as_facts, run_for_real, succeeded
from config.loading import load
from config.simulation import SimulationSettings
from experiments.images import add_image_options, chosen_images
from experiments.json_lines import append_line, lines_in
from experiments.simulation.run import device_names
from learning.data import ImageSet

SETTINGS = Path(__file__).parent / "federations" / "real-time.toml"
ROWS = Path(__file__).parent / "results" / "real_time.jsonl"
TARGETS = (0.40, 0.45, 0.50, 0.55)
OUTBOX = 4  # as agents have it
YIELDS = 5

# The options of each method, beside the settings that all have. With eight devices and two slow
# ones, 130 % is one device too many for two stragglers: that of six is what leaves both behind.
METHODS: Mapping[str, Sequence[str]] = {
    "fedbuff": ("--strategy", "fedbuff", "--aggregation-buffer-size", "4"),
    "memory": ("--strategy", "memory", "--aggregation-buffer-size", "4"),
    "fedavg": ("--strategy", "fedavg"),
    "fedavg, deadline": ("--strategy", "fedavg", "--aggregation-deadline-s", "20"),
    "fedavg, 130 %": ("--strategy", "fedavg", "--aggregation-over-selection", "1.3"),
    "fedavg, six of eight": ("--strategy", "fedavg", "--aggregation-over-selection", "1.34"),
}
SYNCHRONOUS = "fedavg"


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    options = _parser().parse_args(argv)
    images = chosen_images(options)
    for seed in range(1, options.seeds + 1):  # so that each method has as many, if it is stopped
        for method in options.methods:
            _once(images, method, seed, options)
    rows = [row for _, row in lines_in(options.rows) if row["about"] == _about(images, options)]
    print("\n".join(table(rows)))
    return 0


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For people: medians over the seeds, and what each seed took."""
    yield (
        "| method | "
        + " | ".join(f"seconds to {target:.0%}" for target in TARGETS)
        + " | each seed, last of these | versions | updates of the fast, of the slow |"
    )
    yield "|---" * (4 + len(TARGETS)) + "|"
    for method in METHODS:
        runs = [row for row in rows if row["method"] == method]
        if runs:
            yield _line(method, runs)


def _line(method: str, runs: Sequence[Mapping[str, Any]]) -> str:
    slow = set(runs[0]["slowdowns"])
    by_speed: list[str] = []
    for is_slow in (False, True):
        counts = [
            sum(n for device, n in row["updates"].items() if (device in slow) is is_slow)
            for row in runs
        ]
        by_speed.append(f"{median(counts):.0f}")
    times = [_median_text([row["time_s"][str(target)] for row in runs]) for target in TARGETS]
    each = ", ".join(_seconds_text(row["time_s"][str(TARGETS[-1])]) for row in runs)
    versions = f"{median(row['versions'] for row in runs):.0f}"
    return f"| {method} | {' | '.join(times)} | {each} | {versions} | {', '.join(by_speed)} |"


def _median_text(times: Sequence[float | None]) -> str:
    """A median in which what was never reached is longer than all else."""
    return _seconds_text(sorted(times, key=lambda one: (one is None, one))[len(times) // 2])


def _seconds_text(seconds: float | None) -> str:
    return "not in time" if seconds is None else f"{seconds:.0f}"


def _once(images: ImageSet, method: str, seed: int, options: argparse.Namespace) -> None:
    about = _about(images, options)
    key = [method, seed, about]
    if any([row["method"], row["seed"], row["about"]] == key for _, row in lines_in(options.rows)):
        return
    settings = _settings(method, seed, options)
    slow = device_names(settings.devices)[-options.slow :]
    slowdowns = dict.fromkeys(slow, options.slowdown)
    with TemporaryDirectory(prefix="flockwise-real-time-") as folder:
        ran = run_for_real(
            settings, images, Path(folder), slowdowns=slowdowns, outbox_limit=OUTBOX, yields=YIELDS
        )
        with succeeded(ran) as real:
            row = {
                "method": method,
                "seed": seed,
                "about": about,
                **_figures(real),
                "slowdowns": slowdowns,
                "options": list(METHODS[method]),
                "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                "load": round(os.getloadavg()[1], 1),
                "machine": machine(),
            }
    append_line(options.rows, row)
    said = {target: _seconds_text(seconds) for target, seconds in row["time_s"].items()}
    print(method, seed, row["ending"], f"{row['seconds']:.0f} s", said, file=sys.stderr, flush=True)


def _figures(real: Real) -> dict[str, Any]:
    updates = Counter(row["device"] for row in real.rows() if row["kind"] == "update")
    train_s: dict[str, list[float]] = {}
    for row in real.rows():
        if row["kind"] == "update":
            train_s.setdefault(row["device"], []).append(row["train_s"])
    return {
        "ending": real.ending,
        "seconds": round(real.seconds, 1),
        "time_s": {
            str(target): next(
                (round(one.made_s, 1) for one in real.tested if one.accuracy >= target), None
            )
            for target in TARGETS
        },
        "versions": max(real.made_s, default=0),
        "updates": dict(sorted(updates.items())),
        "refused": sum(row["kind"] == "refusal" for row in real.rows()),
        "train_s": {device: round(median(each), 2) for device, each in sorted(train_s.items())},
        "tested": as_facts(real),
    }


def _about(images: ImageSet, options: argparse.Namespace) -> dict[str, Any]:
    """What runs must have in common to be compared."""
    return {
        "generated": images.generated,
        "examples": len(images.train_labels),
        "test_examples": len(images.test_labels),
        "slow": options.slow,
        "slowdown": options.slowdown,
    }


def _settings(method: str, seed: int, options: argparse.Namespace) -> SimulationSettings:
    words = [*METHODS[method], "--seed", str(seed), "--config", str(SETTINGS)]
    if options.limit_s is not None:
        words += ["--limit-s", str(options.limit_s)]
    return load(SimulationSettings, words, prog="benchmarks.real_time", environ={})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.real_time")
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--slow", type=int, default=2, help="how many of the devices are slow")
    parser.add_argument("--slowdown", type=float, default=10.0)
    parser.add_argument("--limit-s", type=float, help="seconds for one run (as the settings say)")
    parser.add_argument("--rows", type=Path, default=ROWS)
    add_image_options(parser)
    parser.set_defaults(test_examples=2000)
    return parser


if __name__ == "__main__":
    as_command(main)
