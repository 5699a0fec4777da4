"""What combining takes beside reading the same bytes once; `python -m benchmarks.aggregation`.

python -m benchmarks.aggregation [--quick] [--threads N]

A hundred updates of 6.5 million numbers in files (2.6 GB as float32), which the page cache holds.
What they are measured against is numpy's `max`, the fastest plain reduction that numpy has, with
the same number of threads, each on its share of every update:

- read files: over the same files, mapped for it and unmapped after it, as it is for combining;
- read memory: over the same numbers in anonymous memory, mapped long before: no program that gets
  them out of files can come to that. Combining out of memory is measured beside it;
- sum files, sum memory: with numpy's `sum`, which adds as a mean does and is slower than `max`.

Each repetition does everything once, one after another; a ratio is of one repetition, and the table
has their median. Memory is measured in a process of its own: the peak of its resident set, mapped
pages included, and the peak of what is anonymous. The table goes to stdout, rows to
benchmarks/results/aggregation.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np

from benchmarks.entry import as_command
from benchmarks.machine import machine
from config.settings import Aggregation
from coordinator.aggregation import weighted_mean
from coordinator.combiner import combine
from coordinator.ranges import Mapped, Source, cores
from coordinator.screening import norm_of
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Combine, Contribution, UpdateId
from experiments.json_lines import append_line
from federation.compression import Vector, decode, encode
from federation.layout import Layout, TensorSpec
from federation.sizes import encoded_size

RESULTS = Path(__file__).with_name("results") / "aggregation.jsonl"
D = 6_500_000
CODECS = ("float32", "bf16", "int8", "int4", "topk")
VECTORS = 5
CHUNK_BYTES = 122_880
Reduction: TypeAlias = Callable[[Vector], Any]
READ_FILES, READ_MEMORY = "read files", "read memory"
SUM_FILES, SUM_MEMORY = "sum files", "sum memory"
READS = (READ_FILES, READ_MEMORY, SUM_FILES, SUM_MEMORY)


def ids(n: int) -> list[UpdateId]:
    return [UpdateId("device", b"outbox-1", number) for number in range(n)]


def fill(folder: Path, n: int) -> None:
    """n updates in each codec, in spools of their own."""
    chance = np.random.default_rng(0)
    vectors = [chance.standard_normal(D, dtype=np.float32) for _ in range(VECTORS)]
    for codec in CODECS:
        (folder / codec).mkdir()
        payloads = [encode(codec, vector) for vector in vectors]
        for id in ids(n):
            Spool(folder / codec).path(id).write_bytes(payloads[id.sequence % VECTORS])


class Work:
    """What is timed: each a function of nothing."""

    def __init__(self, folder: Path, n: int, threads: int) -> None:
        self.folder, self.n, self.threads = folder, n, threads
        self.in_memory = [np.fromfile(path, np.float32) for path in self.paths("float32")]

    def paths(self, codec: str) -> list[Path]:
        return [Spool(self.folder / codec).path(id) for id in ids(self.n)]

    def mapped(self, codec: str) -> list[Source]:
        return [Mapped(path, codec, D) for path in self.paths(codec)]

    def read(self, vectors: Callable[[], Iterable[Vector]], how: Reduction) -> None:
        """The reference: every number once."""
        share = -(-D // self.threads)
        for vector in vectors():

            def reduce(first: int, vector: Vector = vector) -> None:
                how(vector[first : first + share])

            list(self.pool.map(reduce, range(0, D, share)))

    def mapped_wholly(self) -> Any:
        return (np.memmap(path, np.float32, "r") for path in self.paths("float32"))

    def mean(self, sources: Sequence[Source], scales: Sequence[float]) -> Vector:
        parts = ((s, scale, 1.0 + k % 7) for k, (s, scale) in enumerate(zip(sources, scales)))  # noqa: B905
        return weighted_mean(parts, D, self.threads)

    def codec(self, codec: str) -> None:
        self.mean(self.mapped(codec), [0.9] * self.n)

    def unweighted(self) -> None:
        weighted_mean(((source, 1.0, 1.0) for source in self.mapped("float32")), D, self.threads)

    def clipped(self) -> None:
        norms = [norm_of(source, D, self.threads) for source in self.mapped("float32")]
        bound = 0.9 * median(norms)
        self.mean(self.mapped("float32"), [min(1.0, bound / norm) for norm in norms])

    def whole(self) -> None:
        """One update after another, each as a whole: what there was before ranges."""
        total = np.zeros(D, dtype=np.float32)
        for number, path in enumerate(self.paths("float32")):
            payload = np.memmap(path, np.uint8, "r")
            total += decode("float32", payload.data, D) * np.float32(0.9 * (1.0 + number % 7))
        total /= np.float32(sum(1.0 + number % 7 for number in range(self.n)))

    def times(self, repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
        """Seconds of each, of each repetition: by the clock, and of all processors together."""
        works: dict[str, Callable[[], object]] = {
            READ_FILES: lambda: self.read(self.mapped_wholly, np.max),
            READ_MEMORY: lambda: self.read(lambda: self.in_memory, np.max),
            SUM_FILES: lambda: self.read(self.mapped_wholly, np.sum),
            SUM_MEMORY: lambda: self.read(lambda: self.in_memory, np.sum),
            "mean float32": lambda: self.codec("float32"),
            "mean float32, all alike": self.unweighted,
            "mean float32, out of memory": lambda: self.mean(self.in_memory, [0.9] * self.n),
            "norms and clipped mean float32": self.clipped,
            **{f"mean {c}": lambda c=c: self.codec(c) for c in CODECS[1:]},  # type: ignore[misc]
            "whole updates, one by one": self.whole,
        }
        took: dict[str, list[float]] = {name: [] for name in works}
        worked: dict[str, list[float]] = {name: [] for name in works}
        with ThreadPoolExecutor(self.threads) as self.pool:
            for repeat in range(repeats + 1):
                for name, work in works.items():
                    began_s, idle_s = time.perf_counter(), time.process_time()
                    work()
                    if repeat:  # the first warms up
                        took[name].append(time.perf_counter() - began_s)
                        worked[name].append(time.process_time() - idle_s)
        return took, worked


def rows_of(
    took: dict[str, list[float]], worked: dict[str, list[float]], n: int
) -> list[dict[str, Any]]:
    """Each with its speed and its ratios."""
    found = []
    for name, seconds in took.items():
        row: dict[str, Any] = {"what": name, "seconds": seconds, "numbers": n * D}
        row["numbers_per_s"] = n * D / median(seconds)
        words = name.replace(",", "").split()
        codec = next((word for word in words if word in CODECS), "float32")
        row["bytes"] = n * encoded_size(codec, D)
        for read in READS:
            ratios = [r / s for r, s in zip(took[read], seconds, strict=True)]
            row[f"of {read}"] = [median(ratios), min(ratios), max(ratios)]
        row["cpu_seconds"] = worked[name]
        found.append(row)
    return found


def table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        "| what | s, median (all) | 10⁶ numbers/s | GB/s | of " + " | of ".join(READS) + " |",
        "|---" * (4 + len(READS)) + "|",
    ]
    for row in rows:
        seconds = row["seconds"]
        shares = " | ".join(f"{row[f'of {read}'][0]:.0%}" for read in READS)
        lines.append(
            f"| {row['what']} | {median(seconds):.3f} ({min(seconds):.3f} to {max(seconds):.3f}) "
            f"| {row['numbers_per_s'] / 1e6:,.0f} | {row['bytes'] / median(seconds) / 1e9:.1f} "
            f"| {shares} |"
        )
    return "\n".join(lines)


# Memory


def status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


def peaks(work: Callable[[], object]) -> tuple[float, float]:
    """How much more than before was resident at most, and anonymous, in models."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    resident, anonymous = status("VmRSS"), status("RssAnon")
    most, done = 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not done.wait(0.001):
            most = max(most, status("RssAnon"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return (status("VmHWM") - resident) / (4 * D), (most - anonymous) / (4 * D)


def memory(folder: Path, n: int, threads: int, what: str) -> tuple[float, float]:
    """Of one thing, in this process, which did nothing else before."""
    if what in CODECS:
        sources = (
            (Mapped(Spool(folder / what).path(id), what, D), 0.9, 1.0 + id.sequence)
            for id in ids(n)
        )
        return peaks(lambda: weighted_mean(sources, D, threads))
    with TemporaryDirectory(dir=folder) as made:
        versions = Versions(Path(made), CHUNK_BYTES)
        # As large as the layers of a CNN may be: the largest is a ninth of it.
        layout = Layout(tuple(TensorSpec(f"w{k}", (D // 10,)) for k in range(10)))
        versions.save(0, np.ones(D, dtype=np.float32), {}, layout)
        codecs = dict.fromkeys(ids(n), "float32")
        spool, rule = (
            Spool(folder / "float32"),
            Aggregation.model_validate({"combine": "mean", "step": what}),
        )

        def version(base: int) -> None:
            parts = (Contribution(id, base, 0, 0.9, 1.0 + id.sequence) for id in ids(n))
            combine(rule, versions, spool, layout, codecs, Combine(base, tuple(parts)))

        version(0)  # the first step has nothing to remember
        return peaks(lambda: version(1))


def memory_rows(folder: Path, n: int, threads: int, whats: Sequence[str]) -> list[dict[str, Any]]:
    found = []
    for what in whats:
        words = [
            "--memory",
            what,
            "--folder",
            str(folder),
            "--n",
            str(n),
            "--threads",
            str(threads),
        ]
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.aggregation", *words],
            check=True,
            capture_output=True,
            text=True,
        )
        resident, anonymous = json.loads(done.stdout)
        found.append({"what": what, "resident_models": resident, "anonymous_models": anonymous})
    return found


def memory_table(rows: Sequence[dict[str, Any]]) -> str:
    lines = ["| peak, in models of 26 MB | resident | of it anonymous |", "|---" * 3 + "|"]
    for row in rows:
        name = f"mean {row['what']}"
        if row["what"] not in CODECS:
            name = f"a whole version by {row['what']}, from checkpoint to checkpoint"
        lines.append(f"| {name} | {row['resident_models']:.2f} | {row['anonymous_models']:.2f} |")
    return "\n".join(lines)


def main(argv: Sequence[str]) -> int:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.aggregation")
    parser.add_argument("--quick", action="store_true", help="fewer updates, three repetitions")
    parser.add_argument("--threads", type=int, default=cores())
    parser.add_argument("--n", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--memory", default="", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.memory:
        print(json.dumps(memory(options.folder, options.n, options.threads, options.memory)))
        return 0
    n, repeats = (options.n or 16, 3) if options.quick else (options.n or 100, 7)
    whats = ("float32", "sgd") if options.quick else (*CODECS, "sgd", "momentum", "adam")
    with TemporaryDirectory() as name:
        folder = Path(name)
        fill(folder, n)
        rows = rows_of(*Work(folder, n, options.threads).times(repeats), n)
        held = memory_rows(folder, n, options.threads, whats)
    row = {
        "quick": options.quick,
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine(),
        "load": round(os.getloadavg()[0], 1),
        "n": n,
        "d": D,
        "threads": options.threads,
        "rows": rows,
        "memory": held,
    }
    if not options.quick:
        append_line(RESULTS, row)
    told = machine()
    print(f"{told['cpu']}, Python {told['python']}, numpy {told['numpy']}, load {row['load']}")
    print(f"{n} updates of {D:,} numbers, {options.threads} threads, {repeats} repetitions\n")
    print(table(rows))
    print()
    print(memory_table(held))
    return 0


if __name__ == "__main__":
    as_command(main)
