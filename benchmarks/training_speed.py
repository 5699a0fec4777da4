"""Training on this machine: seconds to an accuracy, and what an agent's loop costs.

`python -m benchmarks.training_speed --data IMAGES` has two parts.

*Seconds to an accuracy, in one place.* The built-in CNN against the classic one of 62,006
parameters, as `flockwise lab baseline` trains: the learning rate falls over the whole training, so
a training is planned for its length. Each model is given as many lengths, and the same tries of
batch, rate and threads, with a seed of their own; the quickest that ends at the target is run with
further seeds, and counts if their median does too. Seconds are those of training, without tests.

*Images per second of an agent.* The job that an agent's worker does, with its messages, checkpoints
and the files that it reads and writes, against `benchmarks.bare_training`: the same steps on the
same chunk without Flockwise. In turn, each in a process of its own with one thread; the seconds are
those of the loop alone.
"""

from __future__ import annotations

import argparse
import os
import queue
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bare_training import BATCH, DECAY, RATE
from benchmarks.entry import as_command
from benchmarks.machine import machine
from config.sections import TrainingPlan
from config.settings import AgentSettings
from experiments.baseline import train_centrally
from experiments.images import add_image_options, chosen_images
from experiments.json_lines import append_line, lines_in
from learning.chunks import write_chunk
from learning.data import ImageSet, as_chunk
from learning.process import Worker

ROWS = Path(__file__).parent / "results" / "training_speed.jsonl"
TARGETS = (0.60, 0.70)
MODELS = ("fast-cnn", "tutorial-cnn")
# A whole number of batches, so that steps tell the number of images.
LOOP_EXAMPLES = 4800
HELD_OUT = 480


@dataclass(frozen=True, slots=True)
class Try:
    """How a central training goes; each model is given all of them."""

    batch_size: int
    learning_rate: float
    threads: int

    def __str__(self) -> str:
        return f"batch {self.batch_size}, rate {self.learning_rate:g}, threads {self.threads}"


TRIES = (Try(16, 0.05, 1), Try(32, 0.1, 2), Try(64, 0.1, 2))
# Passes over all images; the classic CNN takes about a third of the time for each.
PASSES: Mapping[str, Sequence[float]] = {
    "fast-cnn": (0.6, 0.75, 0.9, 1.2, 1.5, 2.0, 3.0, 4.0),
    "tutorial-cnn": (2.0, 2.5, 3.0, 3.5, 4.0, 6.0, 9.0, 13.0),
}
TUNING_SEED = 100
# A length that gains less than this is the last that is tried.
LEAST_GAIN = 0.002


def main(argv: Sequence[str]) -> int:
    """Measure both parts and print their tables."""
    options = _parser().parse_args(argv)
    options.parts = options.parts or (("loop",) if options.quick else ("loop", "accuracy"))
    options.repetitions = options.repetitions or (1 if options.quick else 5)
    options.loop_s = options.loop_s or (4.0 if options.quick else 15.0)
    images = chosen_images(options)
    if "loop" in options.parts:
        print("\n".join(_loop(images, options)), flush=True)
    if "accuracy" in options.parts:
        print("\n".join(_accuracy(images, options)), flush=True)
    return 0


def _accuracy(images: ImageSet, options: argparse.Namespace) -> Iterator[str]:
    yield "| model | target | seconds: median (least to most) | passes | setting | sooner |"
    yield "|---|---|---|---|---|---|"
    tuned = {model: list(_tuned(images, model)) for model in MODELS}
    for target in TARGETS:
        found = {model: _soonest(images, tuned[model], target, options.seeds) for model in MODELS}
        for model, runs in found.items():
            if not runs:
                yield f"| {model} | {target:.0%} | not within these passes | | | |"
                continue
            seconds = sorted(run["seconds"] for run in runs)
            classic = found[MODELS[1]]
            sooner = f"{_seconds(classic) / _seconds(runs):.1f} x" if classic else ""
            yield (
                f"| {model} | {target:.0%} | {median(seconds):.1f}"
                f" ({seconds[0]:.1f} to {seconds[-1]:.1f}) | {runs[0]['passes']:g}"
                f" | {runs[0]['try']} | {sooner} |"
            )


def _tuned(images: ImageSet, model: str) -> Iterator[dict[str, Any]]:
    """A run of each length of each try, up to the last target, with the seed for tuning."""
    for one in TRIES:
        before = 0.0
        for passes in PASSES[model]:
            row = _central(images, model, one, passes, TUNING_SEED)
            yield row
            if row["accuracy"] >= TARGETS[-1] or row["accuracy"] < before + LEAST_GAIN:
                break
            before = row["accuracy"]


def _soonest(
    images: ImageSet, tuned: Sequence[Mapping[str, Any]], target: float, seeds: int
) -> list[dict[str, Any]]:
    """The runs with further seeds of the quickest setting whose median reaches the target."""
    good = [row for row in tuned if row["accuracy"] >= target]
    for row in sorted(good, key=lambda row: float(row["seconds"])):
        one = next(one for one in TRIES if str(one) == row["try"])
        runs = [
            _central(images, row["model"], one, row["passes"], seed) for seed in range(1, seeds + 1)
        ]
        if median(run["accuracy"] for run in runs) >= target:
            return runs
    return []


def _central(images: ImageSet, model: str, one: Try, passes: float, seed: int) -> dict[str, Any]:
    key = {"part": "accuracy", "model": model, "try": str(one), "passes": passes, "seed": seed}
    about = {"examples": len(images.train_labels), "generated": images.generated}
    for _, row in lines_in(ROWS):
        if {**row, **key, **about} == row:
            return dict(row)
    plan = TrainingPlan(
        model=model,
        epochs=passes,
        batch_size=one.batch_size,
        learning_rate=one.learning_rate,
        augment=False,
        seed=seed,
    )
    result = train_centrally(images, plan, threads=one.threads, on_epoch=lambda epoch: None)
    row = key | about | {"accuracy": result.accuracy, "seconds": result.seconds}
    row |= {"load": round(os.getloadavg()[0], 1), "machine": machine()}
    append_line(ROWS, row)
    print(*key.values(), f"{result.accuracy:.4f} {result.seconds:.1f} s", file=sys.stderr)
    return row


def _seconds(rows: Sequence[Mapping[str, Any]]) -> float:
    return float(median(row["seconds"] for row in rows))


def _loop(images: ImageSet, options: argparse.Namespace) -> Iterator[str]:
    kinds: dict[str, Callable[[Path, Path, str, float], float]] = {
        "bare": _bare_rate,
        "agent": _agent_rate,
    }
    yield "| model | images a second, bare | in an agent's worker | ratio (least to most) |"
    yield "|---|---|---|---|"
    with TemporaryDirectory(prefix="flockwise-training-") as name:
        folder = Path(name)
        chunk = folder / "chunk.npz"
        write_chunk(chunk, as_chunk(_part(images)))
        for model in MODELS:
            rates: dict[str, list[float]] = {kind: [] for kind in kinds}
            for _ in range(options.repetitions):
                for kind, measure in kinds.items():
                    rates[kind].append(measure(folder, chunk, model, options.loop_s))
            ratios = sorted(a / b for a, b in zip(rates["agent"], rates["bare"], strict=True))
            row = {"part": "loop", "model": model, "rates": rates, "seconds": options.loop_s}
            if not options.quick:
                append_line(ROWS, row | {"generated": images.generated, "machine": machine()})
            yield (
                f"| {model} | {median(rates['bare']):.0f} | {median(rates['agent']):.0f}"
                f" | {median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f}) |"
            )


def _bare_rate(folder: Path, chunk: Path, model: str, seconds: float) -> float:
    command = [sys.executable, "-m", "benchmarks.bare_training", str(chunk), model, str(seconds)]
    done = subprocess.run(
        [*command, "tested"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},  # as a worker
    )
    trained, spent = done.stdout.split()[1:]
    return float(trained) / float(spent)


def _agent_rate(folder: Path, chunk: Path, model: str, seconds: float) -> float:
    """The job of a worker, stopped by the budget of its plan; as an agent gives it."""
    plan = TrainingPlan(
        model=model,
        epochs=1000,
        batch_size=BATCH,
        learning_rate=RATE,
        weight_decay=DECAY,
        budget_s=seconds,
    )
    events: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    worker = Worker(events.put, threads=1)
    try:
        worker.submit({"do": "initialise", "job": "1", **_task(plan), "output": str(folder / "m")})
        layout = _ending(events, "initialised")["layout"]
        worker.submit(
            {
                "do": "train",
                "job": "2",
                **_task(plan),
                "chunk": str(chunk),
                "model": str(folder / "m"),
                "checkpoint": str(folder / "checkpoint"),
                "checkpoint_s": AgentSettings.model_fields["checkpoint_s"].default,
                "residual": None,
                "memory": None,
                "seed": 0,
                "output": str(folder / "update"),
                "residual_output": str(folder / "residual"),
                "layout": layout,
            }
        )
        trained = _ending(events, "trained")
    finally:
        worker.stop()
    return float(trained["steps"] * BATCH / trained["seconds"])


def _task(plan: TrainingPlan) -> dict[str, Any]:
    return {"task": "cifar10", "plan": plan.model_dump(mode="json")}


def _ending(events: queue.SimpleQueue[dict[str, Any]], expected: str) -> dict[str, Any]:
    while (event := events.get(timeout=600))["event"] == "progress":
        pass
    if event["event"] != expected:
        raise RuntimeError(f"the worker says {event}")
    return event


def _part(images: ImageSet) -> ImageSet:
    return replace(
        images,
        train_images=images.train_images[:LOOP_EXAMPLES],
        train_labels=images.train_labels[:LOOP_EXAMPLES],
        test_images=images.test_images[:HELD_OUT],
        test_labels=images.test_labels[:HELD_OUT],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=("loop", "accuracy"))
    parser.add_argument("--quick", action="store_true", help="the loop alone, in half a minute")
    parser.add_argument("--seeds", type=int, default=3, help="runs of the best setting")
    parser.add_argument("--repetitions", type=int, help="runs of each loop (default: 5)")
    parser.add_argument("--loop-s", type=float, help="seconds of each loop (default: 15)")
    add_image_options(parser)
    return parser


if __name__ == "__main__":
    as_command(main)
