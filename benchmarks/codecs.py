"""Codecs: how fast one thread encodes and decodes, what an element takes, and what is lost of it.

`python -m benchmarks.codecs` draws a vector as heavy-tailed as updates are, of 1.6 million elements
(a device's model) and of 6.5 million (25 MB), and prints a table of medians and spread; speeds are
in bytes of float32. `--deltas FILE.npy`, Float32[n, d], measures size and error on real updates.
A row for each run is appended to benchmarks/results/codecs.jsonl.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.entry import as_command
from benchmarks.machine import machine
from experiments.json_lines import append_line
from federation.compression import CODECS, Vector, decode, encode

ROWS = Path(__file__).parent / "results" / "codecs.jsonl"
SIZES = (1_600_000, 6_500_000)
# By how much elements of one model differ in scale, tensor by tensor: as in real updates.
TENSORS = 16


def main(argv: Sequence[str]) -> int:
    """Measure, and print the table."""
    options = _parser().parse_args(argv)
    repeats = 3 if options.quick else options.repeats
    sizes = SIZES[:1] if options.quick else SIZES
    rows = [
        {"codec": codec, **_measured(codec, vector, repeats)}
        for vector in map(drawn, sizes)
        for codec in CODECS
    ]
    if options.deltas is not None:
        real = np.load(options.deltas)
        rows += [{"codec": codec, **_lost(codec, real)} for codec in CODECS]
    if not options.quick:
        append_line(ROWS, {"rows": rows, "machine": machine()})
    print("\n".join(table(rows)))
    return 0


def drawn(d: int) -> Vector:
    """A vector Float32[d] of tensors of unlike scales, each with heavy tails."""
    chance = np.random.default_rng(0)
    scales = np.repeat(chance.lognormal(-6, 1, TENSORS), -(-d // TENSORS))[:d]
    vector: Vector = (chance.standard_t(4, d) * scales).astype(np.float32)
    return vector


def _measured(codec: str, vector: Vector, repeats: int) -> dict[str, Any]:
    payload = encode(codec, vector)
    back = decode(codec, payload, vector.size)
    return {
        "d": vector.size,
        "source": "drawn",
        "bytes": len(payload),
        "error": _error(vector, back),
        "encode_s": _seconds(lambda: encode(codec, vector), repeats),
        "decode_s": _seconds(lambda: decode(codec, payload, vector.size), repeats),
    }


def _lost(codec: str, deltas: Vector) -> dict[str, Any]:
    d = deltas.shape[1]
    payloads = [encode(codec, delta) for delta in deltas]
    errors = [
        _error(delta, decode(codec, payload, d))
        for delta, payload in zip(deltas, payloads, strict=True)
    ]
    sizes = [len(payload) for payload in payloads]
    return {"d": d, "source": "real", "bytes": float(np.mean(sizes)), "error": median(errors)}


def _error(vector: Vector, back: Vector) -> float:
    return float(np.linalg.norm(vector - back) / np.linalg.norm(vector))


def _seconds(work: Callable[[], object], repeats: int) -> list[float]:
    work()
    spent = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        spent.append(time.perf_counter() - began)
    return spent


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """A line for each codec and vector."""
    yield "| codec | elements | fewer bytes | error | encode, MB/s | decode, MB/s |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        size = 4 * row["d"]
        yield (
            f"| {row['codec']} | {row['d']:,} {row['source']} | {size / row['bytes']:.2f} x |"
            f" {row['error']:.4f} | {_speed(size, row.get('encode_s'))} |"
            f" {_speed(size, row.get('decode_s'))} |"
        )


def _speed(size: int, spent: Sequence[float] | None) -> str:
    if not spent:
        return ""
    if median(spent) < 1e-4:
        return "no copy"
    speeds = [size / seconds / 1e6 for seconds in spent]
    return f"{median(speeds):.0f} ({min(speeds):.0f} to {max(speeds):.0f})"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--quick", action="store_true", help="one size, three times; no row")
    parser.add_argument("--deltas", type=Path, help="real updates, Float32[n, d], as .npy")
    return parser


if __name__ == "__main__":
    as_command(main)
