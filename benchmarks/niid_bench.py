"""The protocol of NIID-Bench on CIFAR-10: FedAvg with an even cut, and with a skewed one.

`python -m benchmarks.niid_bench --data IMAGES` simulates federations/niid-bench.toml with each cut
and seed (25 million images: some 45 minutes of a core for each), writes a row for each run to
benchmarks/results/niid_bench.jsonl and prints the table of what is there, beside the goals, which
are what was published (Li et al. 2021, arXiv:2102.02079). Rows that are there are not run again: it
can be continued, also by two processes that have a cut each. `--take DIRECTORY ...` makes rows of
finished runs of `flockwise lab simulate` with that file instead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from benchmarks.endings import course_of, end_of
from benchmarks.entry import as_command
from benchmarks.machine import machine
from config.loading import load
from config.simulation import SimulationSettings
from experiments.images import images_of
from experiments.json_lines import append_line, lines_in
from experiments.simulation.output import SUMMARY
from experiments.simulation.run import simulate
from experiments.simulation.summary import summarize

ROWS = Path(__file__).parent / "results" / "niid_bench.jsonl"
PROTOCOL = Path(__file__).parent / "federations" / "niid-bench.toml"
CUTS: Mapping[str, Sequence[str]] = {
    "dirichlet": (),
    "iid": ("--partition-kind", "iid", "--no-partition-balanced"),
}
# The goal for each cut: accuracy of the last round.
GOALS: Mapping[str, float] = {"dirichlet": 0.682, "iid": 0.71}


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    parser = _parser()
    options = parser.parse_args(argv)
    if options.data is None and not options.take:
        parser.error("--data or --take is needed")
    for directory in options.take:
        _add(json.loads((directory / SUMMARY).read_bytes()))
    for seed in () if options.take else options.seeds:
        for cut in options.cuts:
            if (cut, seed) in _there():
                continue
            words = ["--config", str(PROTOCOL), "--data", str(options.data), "--seed", str(seed)]
            words += ["--engine", "inline", *CUTS[cut]]
            settings = load(SimulationSettings, words, prog="benchmarks.niid_bench")
            images = images_of(settings)
            summary = summarize(settings, images, simulate(settings, images, _tell))
            _add(json.loads(summary.as_json()))
    print("\n".join(table(list(_there().values()))))
    return 0


def _tell(row: Mapping[str, Any]) -> None:
    if row["kind"] == "evaluation":
        print(f"round {row['version']}: {row['accuracy']:.2%}", file=sys.stderr, flush=True)


def _add(summary: Mapping[str, Any]) -> None:
    accuracies = [point["accuracy"] for point in summary["curve"]]
    settings = summary["settings"]
    row = {
        "cut": settings["partition"]["kind"],
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
    for cut in CUTS:
        mine = [row for row in rows if row["cut"] == cut]
        if not mine:
            continue
        ends = [row["final"] for row in mine]
        spread = f" ± {100 * stdev(ends):.1f}" if len(ends) > 1 else ""
        judged = "met" if mean(ends) >= GOALS[cut] else "missed"
        yield (
            f"| {cut} | {len(ends)} | {100 * mean(ends):.1f}{spread} % |"
            f" {', '.join(f'{end:.1%}' for end in ends)} | {mean(r['best'] for r in mine):.1%} |"
            f" {GOALS[cut]:.1%}: {judged} |"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of images, one a class")
    parser.add_argument("--cuts", nargs="+", choices=list(CUTS), default=list(CUTS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--take", nargs="+", type=Path, default=[], metavar="DIRECTORY")
    return parser


if __name__ == "__main__":
    as_command(main)
