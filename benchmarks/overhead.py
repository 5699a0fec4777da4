"""What a round costs beside the training: Flockwise and Flower on the same work, side by side.

python -m benchmarks.overhead [--quick] [--only flockwise] [--cache FOLDER] [--clients 10]

Clients do not train: each adds one number to each element, and all of them take part in each round.
Flockwise is a mosquitto, a coordinator and agents (benchmarks/overhead_flockwise.py), Flower a
SuperLink and SuperNodes of its newest release from PyPI, in an environment of its own
(benchmarks/peers/flower_deployment.py says what is set). They run one after the other, in turns. A
table goes to stdout, and a row for each run to benchmarks/results/overhead.jsonl.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks import overhead_flockwise
from benchmarks.entry import as_command
from benchmarks.gauges import MIB
from benchmarks.machine import machine
from benchmarks.overhead_figures import Found, Work
from benchmarks.peers import environment, flower_deployment
from broker.start import choose
from experiments.json_lines import append_line

RESULTS = Path(__file__).with_name("results") / "overhead.jsonl"
CLIENTS = 10
LINK_GOAL = 2.02
# Megabytes of a model in float32, and what part of Flower's seconds a round may take.
GOALS = {0.25: 1 / 20, 2.5: 1 / 20, 25.0: 1 / 5}
ELEMENTS_PER_MB = 250_000


@dataclass(frozen=True, slots=True)
class Effort:
    """How often: turns of each, and rounds in a turn, the first of which is told apart."""

    sizes_mb: tuple[float, ...]
    turns: int
    our_rounds: int
    peer_sizes_mb: tuple[float, ...]
    peer_rounds: int


WHOLE = Effort(tuple(GOALS), 2, 13, tuple(GOALS), 4)
QUICK = Effort((0.25, 2.5), 1, 6, (0.25,), 2)


def main(argv: Sequence[str]) -> int:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead")
    parser.add_argument("--quick", action="store_true", help="seconds: few rounds, no row is kept")
    parser.add_argument("--only", choices=("flockwise", "flower"), help="leave the other one out")
    parser.add_argument("--cache", type=Path, default=environment.CACHE, help="for environments")
    parser.add_argument("--poll-s", type=float, default=flower_deployment.POLL_S, help="of Flower")
    parser.add_argument("--clients", type=int, default=CLIENTS)
    options = parser.parse_args(argv)
    effort = QUICK if options.quick else WHOLE
    found = _measure(effort, options)
    print(f"{_on_what()}\n\n{table(found)}")
    if not options.quick:
        for one in found:
            append_line(RESULTS, row(one))
    return 0


def _measure(effort: Effort, options: argparse.Namespace) -> list[Found]:
    runs: dict[str, Callable[[Work, Path], Found]] = {}
    if options.only != "flower":
        runs["flockwise"] = overhead_flockwise.run
    if options.only == "flower" or (
        options.only is None and _is_peer_wanted(options.cache, options.quick)
    ):
        flower = environment.made(flower_deployment.PACKAGE, options.cache)
        runs["flower"] = lambda work, folder: flower_deployment.run(
            work, folder, flower, options.poll_s
        )
    found = []
    for size_mb in effort.sizes_mb:
        for turn in range(effort.turns):
            for name, run in runs.items():
                is_peer = name == "flower"
                if is_peer and size_mb not in effort.peer_sizes_mb:
                    continue
                rounds = effort.peer_rounds if is_peer else effort.our_rounds
                work = Work(options.clients, round(size_mb * ELEMENTS_PER_MB), rounds)
                _tell(f"{name}, {size_mb:g} MB, turn {turn + 1} of {effort.turns}")
                with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
                    found.append(run(work, Path(folder)))
    return found


def _is_peer_wanted(cache: Path, quick: bool) -> bool:
    """A quick look installs nothing."""
    return not quick or environment.is_made(flower_deployment.PACKAGE, cache)


def table(found: Sequence[Found]) -> str:
    """All runs, those of one system and size together; below it how they compare."""
    lines = [
        "| | model MB | first round s | round s | from | to | link, models | up | down"
        " | CPU s a round | memory MiB: serving | clients | training | most |",
        "|---" * 14 + "|",
    ]
    groups = _groups(found)
    for (system, elements), runs in groups.items():
        later = list(chain.from_iterable(run.later_s for run in runs))
        size_mb = elements / ELEMENTS_PER_MB
        cells = [
            system,
            f"{size_mb:g}",
            f"{statistics.median(run.rounds_s[0] for run in runs):.2f}",
            f"{statistics.median(later):.3f}",
            f"{min(later):.3f}",
            f"{max(later):.3f}",
            *(f"{value:.3f}" for value in _link(runs)),
            f"{statistics.median(run.cpu_s for run in runs):.2f}",
            *(f"{_memory(runs, part):,.0f}" for part in ("serving", "clients", "training", "most")),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", *_comparison(groups)])


def _comparison(groups: dict[tuple[str, int], list[Found]]) -> list[str]:
    """Ours against the peer's and against the goals, a line for each size."""
    lines = []
    for (system, elements), ours in groups.items():
        if system != overhead_flockwise.SYSTEM:
            continue
        size_mb = elements / ELEMENTS_PER_MB
        line = f"{size_mb:g} MB: {_link(ours)[0]:.3f} models at the link (at most {LINK_GOAL})"
        for (peer, size), theirs in groups.items():
            if peer != system and size == elements:
                share = _seconds(ours) / _seconds(theirs)
                line += f"; a round takes 1/{1 / share:.1f} of that of {peer}"
                if size_mb in GOALS:
                    line += f" (at most 1/{1 / GOALS[size_mb]:.0f})"
        lines.append(line)
    return lines


def _groups(found: Sequence[Found]) -> dict[tuple[str, int], list[Found]]:
    groups: dict[tuple[str, int], list[Found]] = {}
    for one in found:
        groups.setdefault((one.system, one.work.elements), []).append(one)
    return dict(sorted(groups.items(), key=lambda group: group[0][1]))


def _seconds(runs: Sequence[Found]) -> float:
    return statistics.median(chain.from_iterable(run.later_s for run in runs))


def _link(runs: Sequence[Found]) -> tuple[float, float, float]:
    """Models at a client's link in a round: both ways, up, down."""
    size = runs[0].work.model_bytes
    carried = [one for run in runs for one in run.link[1:]]
    up, down = (statistics.median(counts) / size for counts in _columns(carried))
    return statistics.median(run.link_models for run in runs), up, down


def _columns(carried: Sequence[Any]) -> tuple[list[int], list[int]]:
    return [one.up for one in carried], [one.down for one in carried]


def _memory(runs: Sequence[Found], part: str) -> float:
    return statistics.median(run.memory[part] for run in runs) / MIB


def row(one: Found) -> dict[str, Any]:
    """A run as a line of results."""
    return {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": machine() | {"broker": choose("mosquitto").title},
        "load": round(os.getloadavg()[1], 1),
        "system": one.system,
        "clients": one.work.clients,
        "model_bytes": one.work.model_bytes,
        "rounds_s": one.rounds_s,
        "link_up": [carried.up for carried in one.link],
        "link_down": [carried.down for carried in one.link],
        "cpu_s": round(one.cpu_s, 3),
        "memory": dict(one.memory),
    }


def _on_what() -> str:
    """Machine, versions and load, in a line."""
    told = machine() | {"broker": choose("mosquitto").title, "load": f"{os.getloadavg()[0]:.1f}"}
    return ", ".join(f"{name}: {value}" for name, value in told.items())


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    as_command(main)
