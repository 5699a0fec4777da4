"""Whether the simulator tells the truth: one federation for real and in virtual time, side by side.

`python -m benchmarks.simulation_truth --data IMAGES` runs a small federation as processes with a
broker, some devices slowed, once for each seed. Then it simulates it four times: told when each
update was accepted; told what each training took in all, from the model's arrival to the update's
acceptance; told the seconds of training that each device reported (`train_s`), with medians for all
that is beside them; and told one median for each device, as somebody who plans would. It prints
which versions are made of the same updates and how far accuracies are apart, and writes a row for
each comparison to benchmarks/results/simulation_truth.jsonl.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path
from statistics import fmean, median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.entry import as_command
from benchmarks.machine import machine
from benchmarks.real_federation import COORDINATOR, Real, run_for_real, succeeded
from config.sections import TrainingPlan
from config.simulation import SimulationSettings
from experiments.images import add_image_options, chosen_images
from experiments.json_lines import append_line
from experiments.simulation.fleet import Pace
from experiments.simulation.run import Clock, Story, Timing, device_names, simulate
from experiments.simulation.training import Workbench
from federation.compression import Vector
from learning.cifar10 import as_tensors
from learning.data import ImageSet, evaluation_chunk
from learning.runtime import prepare_torch

ROWS = Path(__file__).parent / "results" / "simulation_truth.jsonl"
# A delivery is an offer, a want and a chunk, each to the broker and from it; then the update is
# looked at. A model comes by a header, to the broker and from it, and a chunk from there.
MESSAGES_UP, SCREENING_S, MESSAGES_DOWN = 6, 0.01, 3
SHORTEST_S = 0.001
# In virtual time version 0 is published somewhat earlier than this.
BEGINS_S = 2.0
# What a training takes of which nothing came.
NEVER_S = 1e6


@dataclass(frozen=True, slots=True)
class Measured:
    """What a real run took.

    Attributes:
        whole_s: for each device its trainings, from the arrival of the model to the acceptance of
            the update.
        accepted_s: when those updates were accepted, since version 0.
        train_s: of the same trainings what the device reported.
        startup_s: what first ones took longer (median over the devices).
        overhead_s: what others took beside train_s (median).
        fetching_s: from the publication of a version to its arrival (median).
    """

    whole_s: Mapping[str, tuple[float, ...]]
    accepted_s: Mapping[str, tuple[float, ...]]
    train_s: Mapping[str, tuple[float, ...]]
    startup_s: float
    overhead_s: float
    fetching_s: float

    @property
    def latency_s(self) -> float:
        """Of one message to the broker, or from it."""
        return self.fetching_s / MESSAGES_DOWN

    @property
    def carrying_s(self) -> float:
        """What the delivery of an update takes in virtual time."""
        return MESSAGES_UP * self.latency_s + SCREENING_S


@dataclass(frozen=True, slots=True)
class Compared:
    """A real run beside a simulated one.

    Attributes:
        told: what the simulation was told.
        same_updates, same_order: versions made of the same (device, base version), and also in the
            same order.
        accuracy: version, real, simulated. Real processes test what they have the time for; so all
            versions are tested here, from their checkpoints.
        same_bytes: of the last version.
        seconds: from version 0 to the last one, real and simulated.
    """

    told: str
    versions: int
    same_updates: int
    same_order: int
    accuracy: tuple[tuple[int, float, float], ...]
    same_bytes: bool
    seconds: tuple[float, float]

    @property
    def differences(self) -> list[float]:
        """In accuracy, version by version."""
        return [abs(real - simulated) for _, real, simulated in self.accuracy]


def measured(real: Real, devices: Sequence[str]) -> Measured:
    """What the lines of a run say of time."""
    published = {
        line.facts["version"]: line.time_s for line in real.told(COORDINATOR, "version published")
    }
    whole: dict[str, tuple[float, ...]] = {}
    arrived: dict[str, tuple[float, ...]] = {}
    trained: dict[str, tuple[float, ...]] = {}
    fetching: list[float] = []
    for device in devices:
        fetched = {
            line.facts["version"]: line.time_s for line in real.told(device, "version fetched")
        }
        accepted = {
            line.facts["base_version"]: line.time_s
            for line in real.told(COORDINATOR, "update accepted")
            if line.facts["device"] == device
        }
        reported = {
            row["base_version"]: float(row["train_s"])
            for row in real.rows()
            if row["kind"] == "update" and row["device"] == device
        }
        bases = [version for version in fetched if version in accepted]
        whole[device] = tuple(accepted[base] - fetched[base] for base in bases)
        arrived[device] = tuple(accepted[base] - published[0] for base in bases)
        trained[device] = tuple(reported[base] for base in bases)
        # Only of those that were waited for; others lay there for a while.
        fetching += [
            at_s - published[base]
            for base, at_s in fetched.items()
            if not any(published[base] < other < at_s for other in accepted.values())
        ]
    beside = [
        took - trained[device][place + 1]
        for device in devices
        for place, took in enumerate(whole[device][1:])
    ]
    first = [whole[device][0] - trained[device][0] for device in devices if whole[device]]
    overhead_s = median(beside)
    return Measured(
        whole, arrived, trained, median(first) - overhead_s, overhead_s, median(fetching)
    )


def tellings(took: Measured) -> dict[str, Timing]:
    """What simulations are told of a run, from all to little."""

    def arrivals(name: str, pace: Pace, clock: Clock) -> Callable[[TrainingPlan], float]:
        rest = iter(took.accepted_s[name])

        def duration_s(plan: TrainingPlan) -> float:
            accepted_s = next(rest, inf)
            due_s = BEGINS_S + accepted_s - took.carrying_s - clock()
            return NEVER_S if accepted_s == inf else max(SHORTEST_S, due_s)

        return duration_s

    def whole(name: str, pace: Pace, clock: Clock) -> Callable[[TrainingPlan], float]:
        known = [seconds - took.carrying_s for seconds in took.whole_s[name]]
        return _one_by_one(known, median(known), lambda: 0.0)

    def reported(name: str, pace: Pace, clock: Clock) -> Callable[[TrainingPlan], float]:
        return _one_by_one(took.train_s[name], median(took.train_s[name]), pace.beside_s)

    def typical(name: str, pace: Pace, clock: Clock) -> Callable[[TrainingPlan], float]:
        return _one_by_one((), median(took.train_s[name]), pace.beside_s)

    return {
        "each arrival": arrivals,
        "each training": whole,
        "each train_s": reported,
        "a median a device": typical,
    }


def compared(
    told: str, real: Real, tested: Mapping[int, float], model: Vector, story: Story
) -> Compared:
    """Both side by side.

    Args:
        tested: accuracy of each real version.
        model: Float32[d], the last real version.
    """
    made = real.made()
    history = {
        one.version: tuple((p.id.device, p.id.sequence, p.base_version) for p in one.contributions)
        for one in story.course.history
    }
    virtual = {version: figures["accuracy"] for version, figures in story.course.tested.items()}
    virtual_s = {one.version: one.at_s for one in story.course.history}
    last = max(made)
    return Compared(
        told,
        versions=len(made),
        same_updates=sum(
            sorted(parts) == sorted(history.get(version, ())) for version, parts in made.items()
        ),
        same_order=sum(parts == history.get(version, ()) for version, parts in made.items()),
        accuracy=tuple(
            (version, accuracy, virtual[version])
            for version, accuracy in tested.items()
            if version in virtual
        ),
        same_bytes=model.tobytes() == story.course.model.tobytes(),
        seconds=(round(real.made_s[last], 2), round(virtual_s.get(last, 0.0), 2)),
    )


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people: a row for each comparison."""
    lines = [
        "| method | seed | told | same updates | same order | accuracy: largest, mean difference"
        " | same bytes | seconds, real and virtual |",
        "|---" * 8 + "|",
    ]
    for row in rows:
        gaps = [abs(real - virtual) for _, real, virtual in row["accuracy"]] or [0.0]
        real_s, virtual_s = row["seconds"]
        lines.append(
            f"| {row['method']} | {row['seed']} | {row['told']}"
            f" | {row['same_updates']} of {row['versions']}"
            f" | {row['same_order']} of {row['versions']}"
            f" | {100 * max(gaps):.2f}, {100 * fmean(gaps):.2f} points"
            f" | {'yes' if row['same_bytes'] else 'no'} | {real_s:.1f}, {virtual_s:.1f} |"
        )
    return lines


def side_by_side(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """For people: accuracy by version, of one real run and all its simulations."""
    by_version: dict[int, list[str]] = {}
    for row in rows:
        for version, real, virtual in row["accuracy"]:
            by_version.setdefault(version, [f"{100 * real:.2f}"]).append(f"{100 * virtual:.2f}")
    titles = " | ".join(row["told"] for row in rows)
    lines = [f"| version | real | {titles} |", "|---" * (2 + len(rows)) + "|"]
    lines += [f"| {v} | {' | '.join(cells)} |" for v, cells in sorted(by_version.items())]
    return lines


def main(argv: Sequence[str]) -> int:
    """Run, compare, print, keep."""
    prepare_torch(1)  # as in a worker: more threads sum in another order
    options = _parser().parse_args(argv)
    images = chosen_images(options)
    found: list[dict[str, Any]] = []
    for method in options.methods:
        for seed in range(options.seed, options.seed + options.seeds):
            rows = _once(images, method, seed, options)
            print("\n".join(side_by_side(rows)), file=sys.stderr, flush=True)
            found += rows
    print("\n".join(table(found)))
    return 0


def _once(
    images: ImageSet, method: str, seed: int, options: argparse.Namespace
) -> list[dict[str, Any]]:
    settings, names = _settings(method, seed, options), device_names(options.devices)
    slowdowns = dict(zip(reversed(names), reversed(options.slowdowns), strict=False))
    with TemporaryDirectory(prefix="flockwise-truth-") as folder:
        ran = run_for_real(
            settings, images, Path(folder), slowdowns=slowdowns, outbox_limit=1
        )  # one, as simulated devices have it
        with succeeded(ran) as real:
            took = measured(real, names)
            workbench = Workbench(settings.training.model_copy(update={"seed": seed}))
            models = {n: real.model(n, workbench.layout) for n in range(1, settings.versions + 1)}
            tests = as_tensors(evaluation_chunk(images), images.source)
            tested = {n: workbench.test(m, tests).metrics["accuracy"] for n, m in models.items()}
            fleet = settings.fleet.model_copy(
                update={
                    "latency_s": took.latency_s,
                    "startup_s": took.startup_s,
                    "overhead_s": max(0.0, took.overhead_s - took.carrying_s),
                }
            )
            rows = []
            for told, timing in tellings(took).items():
                virtual = settings.model_copy(update={"fleet": fleet})
                story = simulate(virtual, images, lambda row: None, timing=timing)
                found = compared(told, real, tested, models[settings.versions], story)
                rows.append({"method": method, "seed": seed, **asdict(found)})
    about = {
        "generated": images.generated,
        "examples": len(images.train_labels),
        "test_examples": len(images.test_labels),
        "training": settings.training.model_dump(mode="json"),
        "aggregation": settings.aggregation.model_dump(mode="json"),
        "devices": options.devices,
        "slowdowns": slowdowns,
        "startup_s": round(took.startup_s, 3),
        "overhead_s": round(took.overhead_s, 3),
        "fetching_s": round(took.fetching_s, 3),
        "train_s": {name: [round(s, 2) for s in each] for name, each in took.train_s.items()},
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load": round(os.getloadavg()[1], 1),
        "machine": machine(),
    }
    for row in rows:
        append_line(options.rows, row | about)
    return rows


def _settings(method: str, seed: int, options: argparse.Namespace) -> SimulationSettings:
    each = {"buffer_size": options.buffer_size} if method in ("fedbuff", "memory") else {}
    return SimulationSettings.model_validate(
        {
            "devices": options.devices,
            "strategy": method,
            "seed": seed,
            "versions": options.versions,
            "engine": "inline",
            "limit_s": options.limit_s,
            "partition": {"kind": "dirichlet", "alpha": options.alpha},
            "training": {
                "model": options.model,
                "epochs": options.epochs,
                "augment": False,
            },
            # No cooldown: how long a device is put off has chance in it. No clipping: what arrives
            # while a version is in the making moves the median, and how long that takes differs.
            "aggregation": {
                "cooldown": 0,
                "combine": "mean",
                "wait_for": options.devices,
                "deadline_s": None,
                **each,
            },
        }
    )


def _one_by_one(
    known: Sequence[float], then_s: float, beside_s: Callable[[], float]
) -> Callable[[TrainingPlan], float]:
    rest = iter(known)
    return lambda plan: max(SHORTEST_S, next(rest, then_s) + beside_s())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.simulation_truth")
    parser.add_argument("--methods", nargs="+", default=["fedbuff"])
    parser.add_argument("--seeds", type=int, default=3, help="how many, from --seed on")
    parser.add_argument("--devices", type=int, default=4)
    parser.add_argument(
        "--slowdowns", type=float, nargs="*", default=[3.0, 8.0], help="of the last devices"
    )
    parser.add_argument("--alpha", type=float, default=0.5, help="of Dirichlet, by label")
    parser.add_argument("--model", default="tutorial-cnn")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--buffer-size", type=int, default=2)
    parser.add_argument("--versions", type=int, default=12)
    parser.add_argument("--limit-s", type=float, default=1800.0, help="time for one real run")
    parser.add_argument("--rows", type=Path, default=ROWS)
    add_image_options(parser)
    return parser


if __name__ == "__main__":
    as_command(main)
