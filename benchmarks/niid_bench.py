"""The protocol of NIID-Bench on CIFAR-10: FedAvg with an even cut, and with skewed ones.

`python -m benchmarks.niid_bench --data IMAGES` simulates federations/niid-bench.toml with each cut
and seed (25 million images: some 45 minutes of a core for each), writes a row for each run to
benchmarks/results/niid_bench.jsonl and prints the table of what is there, beside the goals, which
are what was published (Li et al. 2021, arXiv:2102.02079). The cut `reference` gives each party the
labels that it has in the runs of the authors (reference_cut.py). Rows that are there are not run
again: it can be continued, also by two processes that have a cut each. `--take DIRECTORY ...` makes
rows of finished runs of `flockwise lab simulate` with that file instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.endings import course_of, end_of
from benchmarks.entry import as_command
from benchmarks.machine import machine
from benchmarks.reference_cut import reference_cut
from config.loading import load
from config.simulation import SimulationSettings
from experiments.images import images_of
from experiments.json_lines import append_line, lines_in
from experiments.simulation.output import SUMMARY
from experiments.simulation.run import simulate
from experiments.simulation.summary import summarize
from learning.partition import Cut, partition

ROWS = Path(__file__).parent / "results" / "niid_bench.jsonl"
PROTOCOL = Path(__file__).parent / "federations" / "niid-bench.toml"


@dataclass(frozen=True, slots=True)
class Case:
    """A cut with its seeds, and its goal: accuracy after the last round."""

    goal: float
    seeds: Sequence[int] = (1, 2, 3)
    words: Sequence[str] = ()
    cut: Cut = partition


CASES: Mapping[str, Case] = {
    "dirichlet": Case(0.682),
    "reference": Case(0.682, seeds=(0, 1, 2), cut=reference_cut),
    "iid": Case(0.71, words=("--partition-kind", "iid", "--no-partition-balanced")),
}


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.data is None and not options.take:
        parser.error("--data or --take is needed")
    for directory in options.take:
        summary = json.loads((directory / SUMMARY).read_bytes())
        _add(summary["settings"]["partition"]["kind"], summary)
    for name in () if options.take else options.cuts:
        for seed in options.seeds or CASES[name].seeds:
            if (name, seed) not in _there():
                _add(name, _run(CASES[name], seed, options.data, options.workers))
    print("\n".join(table(list(_there().values()))))
    return 0


def _run(case: Case, seed: int, data: Path, workers: int) -> dict[str, Any]:
    words = ["--config", str(PROTOCOL), "--data", str(data), "--seed", str(seed)]
    words += ["--engine", "local", "--workers", str(workers), *case.words]
    settings = load(SimulationSettings, words, prog="benchmarks.niid_bench")
    images = images_of(settings)
    story = simulate(settings, images, _tell, cut=case.cut)
    made: dict[str, Any] = json.loads(summarize(settings, images, story).as_json())
    return made


def _tell(row: Mapping[str, Any]) -> None:
    if row["kind"] == "evaluation":
        print(f"round {row['version']}: {row['accuracy']:.2%}", file=sys.stderr, flush=True)


def _add(name: str, summary: Mapping[str, Any]) -> None:
    accuracies = [point["accuracy"] for point in summary["curve"]]
    settings = summary["settings"]
    row = {
        "cut": name,
        "seed": settings["seed"],
        "final": accuracies[-1],
        "last_rounds": end_of(accuracies),
        **course_of(accuracies),
        "recall": summary["recall"],
        "wall_s": summary["wall_s"],
        "model": summary["model"],
        "settings": settings,
        "machine": machine(),
    }
    if (row["cut"], row["seed"]) not in _there():
        append_line(ROWS, row)


def _there() -> dict[tuple[str, int], dict[str, Any]]:
    return {(row["cut"], row["seed"]): row for _, row in lines_in(ROWS)}


def table(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """For each cut: how the runs ended, and the goal."""
    yield "| cut | seeds | last round: mean, deviation | each seed | best round | goal |"
    yield "|---|---|---|---|---|---|"
    for name, case in CASES.items():
        mine = [row for row in rows if row["cut"] == name]
        if not mine:
            continue
        ends = [row["final"] for row in mine]
        spread = f" ± {100 * stdev(ends):.1f}" if len(ends) > 1 else ""
        judged = "met" if mean(ends) >= case.goal else "missed"
        yield (
            f"| {name} | {len(ends)} | {100 * mean(ends):.1f}{spread} % |"
            f" {', '.join(f'{end:.1%}' for end in ends)} | {mean(r['best'] for r in mine):.1%} |"
            f" {case.goal:.1%}: {judged} |"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of images, one a class")
    parser.add_argument("--cuts", nargs="+", choices=list(CASES), default=list(CASES))
    parser.add_argument("--seeds", nargs="+", type=int, help="default: three for each cut")
    parser.add_argument("--workers", type=int, default=1, help="processes that train (default: 1)")
    parser.add_argument("--take", nargs="+", type=Path, default=[], metavar="DIRECTORY")
    return parser


if __name__ == "__main__":
    as_command(main)
