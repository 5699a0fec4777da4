"""All benchmarks, one after another.

python -m benchmarks [--quick] [--only NAME] [--data IMAGES]

Each is a module of its own that prints a table and keeps its rows; this says what each measures and
how long it took. What lacks something (a broker, the network, images) says so in a line and is
passed over. One that fails does not end the others, but makes the exit code 1. Nothing is judged by
its figures. With --quick the shortest useful run of those that have one: minutes in all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from benchmarks.entry import as_command
from config.failures import ExitCode

HOME = Path(__file__).resolve().parent.parent
# How a benchmark says that something is not there that it needs.
LACKING = (ExitCode.NO_INPUT, ExitCode.UNAVAILABLE, ExitCode.CONFIG)

# Runs a command to its end and gives its exit code.
Runner = Callable[[Sequence[str]], int]


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One module here.

    Attributes:
        what: what it measures.
        quick: whether it has a run of less than a minute that is worth a look.
        images: whether it needs images, told by --data; a quick run takes made-up ones.
    """

    name: str
    what: str
    quick: bool = False
    images: bool = False


BENCHMARKS = (
    Benchmark("codecs", "encoding and decoding of updates: speed, bytes, error", quick=True),
    Benchmark("aggregation", "combining updates, beside reading them from memory", quick=True),
    Benchmark("goodput", "updates and models through the broker, beside plain MQTT", quick=True),
    Benchmark("fleet", "a thousand devices on one coordinator", quick=True),
    Benchmark("training_speed", "an agent's training, beside a bare loop", quick=True, images=True),
    Benchmark("overhead", "a round without training, beside Flower's", quick=True),
    Benchmark("sealing", "signing and sealing: time and bytes"),
    Benchmark("robust_rules", "rules that withstand hostile updates: time and memory"),
    Benchmark("footprint", "an agent's memory, wake-ups, growth and writes"),
    Benchmark("simulation_truth", "the simulator beside a real federation", images=True),
    Benchmark("real_time", "seconds to an accuracy, in processes", images=True),
    Benchmark("bytes_to_accuracy", "bytes to an accuracy, by codec", images=True),
    Benchmark("time_to_accuracy", "virtual time to an accuracy, by method", images=True),
    Benchmark("central_gap", "FedAvg beside central training, evenly dealt", images=True),
    Benchmark("niid_bench", "the protocol of NIID-Bench", images=True),
    Benchmark("jpeg_loss", "what JPEG copies of the images cost", images=True),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one benchmark: why it was passed over or failed, or nothing."""

    name: str
    seconds: float = 0.0
    passed_over: str = ""
    failed: str = ""


def main(argv: Sequence[str]) -> int:
    """Run what is asked for; 1 if anything failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    names = [benchmark.name for benchmark in BENCHMARKS]
    parser.add_argument("--quick", action="store_true", help="minutes in all")
    parser.add_argument("--only", action="append", choices=names, help="may be repeated")
    parser.add_argument("--data", type=Path, help="a folder of images: train/<class>/*, test/...")
    options = parser.parse_args(argv)
    chosen = [
        one
        for one in BENCHMARKS
        if one.name in (options.only or names) and one.quick >= options.quick
    ]
    outcomes = [attempt(one, _run, quick=options.quick, data=options.data) for one in chosen]
    print(summary(outcomes))
    return int(any(outcome.failed for outcome in outcomes))


def attempt(
    benchmark: Benchmark, run: Runner, *, quick: bool = False, data: Path | None = None
) -> Outcome:
    """Run one benchmark, if what it needs is there."""
    name = benchmark.name
    print(f"\n# {name}: {benchmark.what}\n", flush=True)
    if find_spec(f"benchmarks.{name}") is None:
        return Outcome(name, passed_over="there is no such module")
    if benchmark.images and data is None and not quick:
        return Outcome(name, passed_over="it needs images: --data")
    words = [sys.executable, "-m", f"benchmarks.{name}"]
    if quick:
        words.append("--quick")
    if benchmark.images:
        words += ["--generated"] if data is None else ["--data", str(data)]
    began_s = time.monotonic()
    code = run(words)
    seconds = time.monotonic() - began_s
    if code in LACKING:
        return Outcome(name, seconds, passed_over="it lacks what it says above")
    return Outcome(name, seconds, failed="" if code == 0 else f"it ended with code {code}")


def summary(outcomes: Sequence[Outcome]) -> str:
    """A line for each."""
    lines = ["\n| benchmark | seconds | |", "|---|---|---|"]
    for outcome in outcomes:
        how = f"FAILED: {outcome.failed}" if outcome.failed else outcome.passed_over or "done"
        lines.append(f"| {outcome.name} | {outcome.seconds:.0f} | {how} |")
    return "\n".join(lines)


def _run(words: Sequence[str]) -> int:
    return subprocess.run(words, cwd=HOME, check=False).returncode


if __name__ == "__main__":
    as_command(main)
