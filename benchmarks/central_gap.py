"""What federation costs when nothing is skewed: FedAvg beside central training, equal steps.

`python -m benchmarks.central_gap --data IMAGES` deals all images out evenly to ten devices. Central
training and FedAvg go through them equally often, in batches of the same size: equal gradient
steps. Each is given as many settings with a seed of its own; the one that ends best is run with
further seeds. A row for each run is appended to benchmarks/results/central_gap.jsonl; rows that are
there are not run again: it can be continued, also by two processes, one for each method.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from benchmarks.endings import course_of, end_of
from benchmarks.entry import as_command
from benchmarks.machine import machine
from experiments.compare.methods import methods_of
from experiments.compare.running import Terms, run_all
from experiments.json_lines import append_line, lines_in
from experiments.simulation.output import SUMMARY

ROWS = Path(__file__).parent / "results" / "central_gap.jsonl"
GOAL = 0.02
TUNING_SEED = 100
TESTS_A_PASS = 2

COMMON = {
    "devices": "10",
    "partition-kind": "iid",
    "partition-held-out": "0",
    "training-model": "tutorial-cnn",
    "training-batch-size": "32",
    "training-weight-decay": "0.0005",
    "standing-quarantine": "manual",
}
# Nobody is hostile or late: a plain mean of all.
ROUNDS = {
    "aggregation-combine": "mean",
    "aggregation-norm-limit": "none",
    "aggregation-cooldown": "0",
    "aggregation-deadline-s": "none",
}


class Try(NamedTuple):
    """A setting of a method."""

    method: str
    name: str
    options: Mapping[str, str]


def _central(rate: str, momentum: str = "0") -> Try:
    options = {"training-learning-rate": rate, "training-momentum": momentum}
    return Try("central", f"rate {rate}, momentum {momentum}", options)


def _rounds(rate: str, step: str, rounds: int = 5) -> Try:
    """So many rounds of all devices to each pass through the images."""
    options = {**ROUNDS, "training-learning-rate": rate, "aggregation-step": step}
    options["training-epochs"] = f"{1 / rounds:g}"
    return Try("fedavg", f"rate {rate}, server {step}, {rounds} rounds a pass", options)


TRIES: Sequence[Try] = (
    _central("0.02"),
    _central("0.05"),
    _central("0.1"),
    _central("0.2"),
    _central("0.01", momentum="0.9"),
    _central("0.03"),
    _central("0.03", momentum="0.5"),
    _central("0.005", momentum="0.9"),
    _rounds("0.05", "sgd"),
    _rounds("0.1", "sgd"),
    _rounds("0.2", "sgd"),
    _rounds("0.02", "momentum"),
    _rounds("0.05", "momentum"),
    _rounds("0.05", "momentum", rounds=10),
    _rounds("0.1", "momentum", rounds=10),
    _rounds("0.05", "momentum", rounds=20),
)


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    options = _parser().parse_args(argv)
    for method in options.methods:
        mine = [one for one in TRIES if one.method == method]
        for one in mine:
            _once(one, TUNING_SEED, options)
        best = _best(_rows(options.passes), method)
        for seed in range(1, options.seeds + 1):
            _once(best, seed, options)
    print("\n".join(table(_rows(options.passes))))
    return 0


def _once(one: Try, seed: int, options: argparse.Namespace) -> None:
    key = (one.method, one.name, seed)
    if any((row["method"], row["try"], row["seed"]) == key for row in _rows(options.passes)):
        return
    given = {**COMMON, **one.options, "data": str(options.data), "workers": str(options.workers)}
    words = [f"--{name}={value}" for name, value in given.items()]
    terms = Terms(options.passes, TESTS_A_PASS, (seed,))
    with TemporaryDirectory() as folder:
        (directory,) = run_all(methods_of([one.method], {}, words), terms, Path(folder))
        summary = json.loads((directory / SUMMARY).read_bytes())
    accuracies = [point["accuracy"] for point in summary["curve"]]
    row = {
        "method": one.method,
        "try": one.name,
        "seed": seed,
        "passes": options.passes,
        "final": end_of(accuracies),
        **course_of(accuracies),
        "updates": summary["updates"],
        "versions": summary["versions"],
        "bytes_up": summary["bytes_up"],
        "wall_s": summary["wall_s"],
        "settings": summary["settings"],
        "machine": machine(),
    }
    append_line(ROWS, row)
    print(*key, f"{row['final']:.2%}", f"{row['wall_s']:.0f} s", file=sys.stderr, flush=True)


def _rows(passes: float) -> list[dict[str, Any]]:
    return [row for _, row in lines_in(ROWS) if row["passes"] == passes]


def _best(rows: Sequence[Mapping[str, Any]], method: str) -> Try:
    """The try that ended best with the seed for tuning."""
    ended = {
        row["try"]: row["final"]
        for row in rows
        if row["method"] == method and row["seed"] == TUNING_SEED
    }
    mine = [one for one in TRIES if one.method == method]
    return max(mine, key=lambda one: ended.get(one.name, 0.0))


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Each try's end in tuning; and of the best ones, the end of each further seed."""
    yield "| method | setting | in tuning | further seeds | mean |"
    yield "|---|---|---|---|---|"
    means: dict[str, float] = {}
    for one in TRIES:
        mine = [row for row in rows if (row["method"], row["try"]) == (one.method, one.name)]
        tuned = [row["final"] for row in mine if row["seed"] == TUNING_SEED]
        further = [row["final"] for row in mine if row["seed"] != TUNING_SEED]
        if further and one == _best(rows, one.method):
            means[one.method] = mean(further)
        yield (
            f"| {one.method} | {one.name} | {', '.join(f'{end:.2%}' for end in tuned)} |"
            f" {', '.join(f'{end:.2%}' for end in further)} |"
            f" {f'{mean(further):.2%}' if further else ''} |"
        )
    if len(means) == 2:
        gap = means["central"] - means["fedavg"]
        judged = "met" if gap <= GOAL else "missed"
        yield f"\nFedAvg ends {100 * gap:.1f} points below central training (goal: 2): {judged}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of images, one a class")
    parser.add_argument(
        "--methods", nargs="+", choices=["central", "fedavg"], default=["central", "fedavg"]
    )
    parser.add_argument("--passes", type=float, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=0, help="processes (0: one a core)")
    return parser


if __name__ == "__main__":
    as_command(main)
