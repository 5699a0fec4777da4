"""Virtual time to an accuracy: asynchronous against synchronous, on three kinds of fleet.

`python -m benchmarks.time_to_accuracy --data IMAGES` tunes each method on each fleet with two seeds
(all methods get as many tries; the one counts whose later time is the sooner, and what cannot be
that any more is not run with the second seed), runs the best of each with further seeds, writes a
row for each run to benchmarks/results/time_to_accuracy.jsonl and prints the table of what is there.
Rows that are there are not run again: it can be continued.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.entry import as_command
from benchmarks.machine import machine
from config.simulation import SimulationSettings
from experiments.images import add_image_options, chosen_images
from experiments.json_lines import append_line, lines_in
from experiments.simulation.run import simulate
from experiments.simulation.summary import Summary, summarize
from learning.data import ImageSet

ROWS = Path(__file__).parent / "results" / "time_to_accuracy.jsonl"
TARGETS = (0.40, 0.45, 0.50, 0.55)
TUNING_SEEDS = (100, 101)
TUNING_UPDATES = 2500

COMMON: Mapping[str, Any] = {
    "devices": 100,
    "evaluate_every": 5,
    "partition": {"kind": "dirichlet", "alpha": 0.3},
    "standing": {"quarantine": "manual"},
    "training": {
        "model": "tutorial-cnn",
        "augment": False,
        "batch_size": 16,
        "learning_rate": 0.05,
        "weight_decay": 0.0,
    },
}
# Nobody is hostile here: a plain mean, for all methods alike.
PLAIN: Mapping[str, Any] = {"combine": "mean", "norm_limit": None, "cooldown": 0}

FLEETS: Mapping[str, Mapping[str, Any]] = {
    "half-normal": {"speed": "half_normal"},
    "lognormal": {"speed": "lognormal", "spread": 1.0},
    "stragglers": {
        "stragglers": 0.2,
        "straggler_factor": 20.0,
        "straggler_labels": 2,
        "availability": "on_off",
        "on_s": 120.0,
        "off_s": 60.0,
        "crash": 0.1,
        "reboot_s": 30.0,
    },
}


@dataclass(frozen=True, slots=True)
class Try:
    """One setting of a method: what it is called, and the settings of [aggregation]."""

    method: str
    name: str
    strategy: str
    aggregation: Mapping[str, Any] = field(compare=False)

    def __str__(self) -> str:
        return f"{self.method}: {self.name}"


def _rounds(name: str, **aggregation: Any) -> Try:
    return Try("synchronous", name, "fedavg", {"by_examples": True, **aggregation})


def _buffer(name: str, **aggregation: Any) -> Try:
    return Try("fedbuff", name, "fedbuff", aggregation)


def _memory(name: str, **aggregation: Any) -> Try:
    return Try("memory", name, "memory", aggregation)


TRIES: Sequence[Try] = (
    _rounds("10 of 13 in 13.5 s", fraction=0.13, over_selection=1.3, deadline_s=13.5),
    _rounds("10 of 13", fraction=0.13, over_selection=1.3, deadline_s=None),
    _rounds("10 of 20", fraction=0.2, over_selection=2.0, deadline_s=None),
    _rounds("10 of 40", fraction=0.4, over_selection=4.0, deadline_s=None),
    _buffer("20 invited", fraction=0.2),
    _buffer("20 invited, constant", fraction=0.2, staleness="constant"),
    _buffer("40 invited, constant", fraction=0.4, staleness="constant"),
    _buffer("all", fraction=1.0),
    _memory("20 invited", fraction=0.2),
    _memory("20 invited, constant", fraction=0.2, staleness="constant"),
    _memory("40 invited, constant", fraction=0.4, staleness="constant"),
    _memory("all", fraction=1.0),
)
# Where devices are away or much slower, few of the invited are at work: these were tried besides.
FURTHER_TRIES: Mapping[str, Sequence[Try]] = {
    "stragglers": (
        _rounds("10 of 30", fraction=0.3, over_selection=3.0, deadline_s=None),
        _rounds(
            "10 of 20, step 1.5", fraction=0.2, over_selection=2.0, deadline_s=None, step_size=1.5
        ),
        _buffer("all, constant, step 0.5", fraction=1.0, staleness="constant", step_size=0.5),
        _buffer("all, constant, step 0.7", fraction=1.0, staleness="constant", step_size=0.7),
        _memory("all, constant, step 0.5", fraction=1.0, staleness="constant", step_size=0.5),
        _memory("all, constant, step 0.7", fraction=1.0, staleness="constant", step_size=0.7),
    )
}
# Tuned on one fleet with nothing tied to labels, the methods go as they are on the other.
TUNED_ON: Mapping[str, str] = {"lognormal": "half-normal"}


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    options = _parser().parse_args(argv)
    images = chosen_images(options)
    for fleet in options.fleet:
        tuned_on = TUNED_ON.get(fleet, fleet)
        tries = tries_on(tuned_on)
        for seed in TUNING_SEEDS:
            for one in tries:
                there = _rows(options.target, generated=images.generated)
                if not _is_beaten(there, tuned_on, one, options.target):
                    _once(images, tuned_on, one, seed, options)
        for method in dict.fromkeys(one.method for one in tries):
            best = _best(
                _rows(options.target, generated=images.generated), tuned_on, method, options.target
            )
            further = [one for one in tries if one.method == method and str(one) in options.also]
            for seed in range(1, options.seeds + 1):
                for one in dict.fromkeys([best, *further]):
                    _once(images, fleet, one, seed, options)
    print("\n".join(table(_rows(options.target, generated=images.generated), options.target)))
    return 0


def tries_on(fleet: str) -> Sequence[Try]:
    """What is tried on a fleet: as much of each method."""
    return (*TRIES, *FURTHER_TRIES.get(fleet, ()))


def _once(images: ImageSet, fleet: str, one: Try, seed: int, options: argparse.Namespace) -> None:
    key = [fleet, one.method, one.name, seed]
    there = _rows(options.target, generated=images.generated)
    updates = min(options.updates, TUNING_UPDATES) if seed in TUNING_SEEDS else options.updates
    versions = updates // 10
    for old in there:
        same = [old["fleet"], old["method"], old["try"], old["seed"]] == key
        if same and (old["ending"] == "target" or old["settings"]["versions"] >= versions):
            return
    settings = SimulationSettings.model_validate(
        {
            **COMMON,
            "strategy": one.strategy,
            "seed": seed,
            "fleet": FLEETS[fleet],
            "aggregation": {**PLAIN, **one.aggregation},
            "target": options.target,
            "versions": versions,
            "workers": options.workers,
        }
    )
    summary = summarize(settings, images, simulate(settings, images, lambda row: None))
    row: dict[str, Any] = {"fleet": fleet, "method": one.method, "try": one.name, "seed": seed}
    row |= _figures(summary) | {"machine": machine()}
    append_line(ROWS, row)
    reached = row["time_s"][str(options.target)]
    print(
        *key, reached, f"{row['best']:.3f}", f"{row['wall_s']:.0f} s", file=sys.stderr, flush=True
    )


def _figures(summary: Summary) -> dict[str, Any]:
    return {
        "generated": summary.generated,
        "ending": summary.ending,
        "time_s": {str(target): summary.time_to(target) for target in TARGETS},
        "updates": {str(target): summary.updates_to(target) for target in TARGETS},
        "best": summary.best_accuracy,
        "final": summary.accuracy,
        "recall": summary.recall,
        "virtual_s": summary.virtual_s,
        "all_updates": summary.updates,
        "refused": dict(summary.refused),
        "crashes": summary.crashes,
        "bytes_up": summary.bytes_up,
        "wall_s": summary.wall_s,
        "model": summary.model,
        "settings": summary.settings,
    }


def _rows(target: float, *, generated: bool = False) -> list[dict[str, Any]]:
    """The rows of runs that ended at this target: another one's tell nothing of it."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for _, row in lines_in(ROWS):
        if row["settings"]["target"] == target and row["generated"] == generated:
            # A longer run of the same goes the same way, and then on.
            rows[row["fleet"], row["method"], row["try"], row["seed"]] = row
    return list(rows.values())


def _best(rows: Sequence[Mapping[str, Any]], fleet: str, method: str, target: float) -> Try:
    """The try whose later time to the target is the soonest, over the seeds for tuning.

    Of tries that did not reach it with each seed, the one with the best accuracy.
    """

    def rank(one: Try) -> tuple[float, float]:
        mine = _rows_of(rows, fleet, one, tuning=True)
        later_s = max(_times(mine, target), default=inf)
        return later_s, -min((row["best"] for row in mine), default=0.0)

    return min((one for one in tries_on(fleet) if one.method == method), key=rank)


def _is_beaten(rows: Sequence[Mapping[str, Any]], fleet: str, one: Try, target: float) -> bool:
    """Whether a further seed cannot make it the best: what it took already is longer."""
    rivals = [other for other in tries_on(fleet) if other.method == one.method]
    times = {each: _times(_rows_of(rows, fleet, each, tuning=True), target) for each in rivals}
    whole = [max(found) for found in times.values() if len(found) == len(TUNING_SEEDS)]
    return bool(times[one] and whole) and max(times[one]) > min(whole)


def _rows_of(
    rows: Sequence[Mapping[str, Any]], fleet: str, one: Try, *, tuning: bool
) -> Sequence[Mapping[str, Any]]:
    """The rows of a try on a fleet: with the seeds for tuning, or with the further ones."""
    key = (fleet, one.method, one.name)
    return [
        row
        for row in rows
        if (row["fleet"], row["method"], row["try"]) == key
        and (row["seed"] in TUNING_SEEDS) == tuning
    ]


def _times(rows: Sequence[Mapping[str, Any]], target: float) -> Sequence[float]:
    """When each run reached the target, in order; infinity where it did not."""
    return sorted(row["time_s"][str(target)] or inf for row in rows)


def table(rows: Sequence[Mapping[str, Any]], target: float) -> Iterator[str]:
    """For each fleet: median time to the target, spread, and how much sooner; the tuned in bold."""
    yield f"| fleet | method | setting | seeds | time to {target:.0%} | least to most | sooner |"
    yield "|---|---|---|---|---|---|---|"
    for fleet in FLEETS:
        tuned_on = TUNED_ON.get(fleet, fleet)
        times = {
            one: _times(_rows_of(rows, fleet, one, tuning=False), target)
            for one in tries_on(tuned_on)
        }
        methods = dict.fromkeys(one.method for one in times)
        chosen = {method: _best(rows, tuned_on, method, target) for method in methods}
        reference = times[chosen["synchronous"]]
        for one, mine in times.items():
            if not mine:
                continue
            middle = median(mine)
            is_told = reference and median(reference) < inf and middle < inf
            sooner = f"{median(reference) / middle:.1f} x" if is_told else ""
            name = f"**{one.name}**" if one == chosen[one.method] else one.name
            yield (
                f"| {fleet} | {one.method} | {name} | {len(mine)} | {_seconds(middle)} |"
                f" {_seconds(mine[0])} to {_seconds(mine[-1])} | {sooner} |"
            )


def _seconds(time_s: float) -> str:
    return "not" if time_s == inf else f"{time_s:.0f} s"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fleet", nargs="+", choices=list(FLEETS), default=list(FLEETS))
    parser.add_argument("--seeds", type=int, default=3, help="runs of the best of each method")
    parser.add_argument(
        "--also",
        nargs="+",
        default=[],
        choices=list(dict.fromkeys(str(one) for fleet in FLEETS for one in tries_on(fleet))),
        metavar="'METHOD: SETTING'",
        help="settings to run with further seeds though others were better in tuning",
    )
    parser.add_argument("--target", type=float, choices=TARGETS, default=0.50)
    parser.add_argument(
        "--updates", type=int, default=6000, help="most updates of a run (in tuning 2500)"
    )
    parser.add_argument("--workers", type=int, default=0, help="processes (0: one a core)")
    add_image_options(parser)
    return parser


if __name__ == "__main__":
    as_command(main)
