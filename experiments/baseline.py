"""`flockwise lab baseline`: the same model, data and loop as a federation's, all in one place.

What a federation is to be measured against: nothing is divided, sent or averaged. The learning
rate falls along half a cosine, as one long training does best with.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.sections import TrainingPlan
from experiments.images import add_image_options, chosen_images
from experiments.numbers import whole
from federation.files import replace_file
from learning.cifar10 import Cifar10, as_tensors
from learning.data import ImageSet, as_chunk
from learning.process import physical_cores
from learning.runtime import prepare_torch
from learning.training import half_cosine, train
from learning.vectors import layout_of

DEFAULT_EPOCHS = 10.0
_PLAN_OPTIONS: dict[str, type] = {
    "model": str,
    "epochs": float,
    "batch_size": int,
    "learning_rate": float,
    "momentum": float,
    "weight_decay": float,
}


@dataclass(frozen=True, slots=True)
class Epoch:
    """The model after so many epochs; seconds of training up to then, tests not counted."""

    epoch: float
    accuracy: float
    loss: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class Baseline:
    """A central training, as the summary file tells it."""

    model: str
    parameters: int
    source: str
    generated: bool
    train_examples: int
    test_examples: int
    threads: int
    plan: dict[str, Any]
    accuracy: float
    seconds: float
    epochs: tuple[Epoch, ...]


def main(argv: Sequence[str]) -> int:
    """Train centrally and show the accuracy after each epoch."""
    options = _parser().parse_args(argv)
    plan = _plan(options)
    images = chosen_images(options)
    # Tables go to people, except where stdout is for a program.
    out = sys.stderr if options.json else sys.stdout
    note = " GENERATED, NOT REAL" if images.generated else ""

    def show(epoch: Epoch) -> None:
        _wipe_progress()
        print(
            f"epoch {epoch.epoch:6g}  accuracy {epoch.accuracy:7.2%}{note}"
            f"  {epoch.seconds:7.1f} s of training",
            file=out,
            flush=True,
        )

    result = train_centrally(
        images,
        plan,
        threads=options.threads or physical_cores(),
        on_epoch=show,
        on_progress=_show_progress,
    )
    print(
        f"{result.model} ({result.parameters} parameters) on {result.train_examples} of"
        f" {result.source}: {result.accuracy:.2%} of {result.test_examples} test images{note},"
        f" {result.seconds:.1f} s with {result.threads} threads",
        file=out,
    )
    text = json.dumps(asdict(result), indent=2)
    if options.json:
        print(text)
    if options.summary is not None:
        _write_summary(options.summary, text)
    return ExitCode.OK


def train_centrally(
    images: ImageSet,
    plan: TrainingPlan,
    *,
    threads: int,
    on_epoch: Callable[[Epoch], None],
    on_progress: Callable[[float, float], None] = lambda done, loss: None,
) -> Baseline:
    """Train on all training images; test after each epoch and at the end.

    Args:
        images: the whole set; it has test images.
        plan: the model and how it is trained; its epochs are those of the whole training.
        threads: threads of torch.
        on_epoch: told after each test.
        on_progress: told after each step: the share that is done and the loss.

    Raises:
        DivergenceError: the training left the finite numbers.
        Failure: no such model, or more classes than it tells apart.
    """
    prepare_torch(threads)
    task = Cifar10()
    data = as_tensors(as_chunk(images), images.source)
    model = task.build_model(plan)
    epochs: list[Epoch] = []
    tested_s = 0.0
    started = time.monotonic()

    def on_step(done: float, loss: float) -> None:
        nonlocal tested_s
        on_progress(done, loss)
        passed = done * plan.epochs
        if passed < len(epochs) + 1 and done < 1:
            return
        before = time.monotonic()
        metrics = task.evaluate(model, data, on_step=lambda done, loss: None).metrics
        epoch = Epoch(
            epoch=float(len(epochs) + 1) if done < 1 else plan.epochs,
            accuracy=metrics["accuracy"],
            loss=metrics.get("loss"),
            seconds=round(before - started - tested_s, 2),
        )
        epochs.append(epoch)
        on_epoch(epoch)
        tested_s += time.monotonic() - before

    train(
        model,
        data.train_images,
        data.train_labels,
        plan,
        seed=plan.seed,
        on_step=on_step,
        # The best that one training can do: nothing is averaged that would quieten its steps.
        schedule=half_cosine,
    )
    return Baseline(
        model=plan.model,
        parameters=layout_of(model).size,
        source=images.source,
        generated=images.generated,
        train_examples=len(images.train_labels),
        test_examples=len(images.test_labels),
        threads=threads,
        plan=plan.model_dump(),
        accuracy=epochs[-1].accuracy,
        seconds=epochs[-1].seconds,
        epochs=tuple(epochs),
    )


def _plan(options: argparse.Namespace) -> TrainingPlan:
    names = set(TrainingPlan.model_fields) & set(vars(options))
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    try:
        return TrainingPlan.model_validate({"epochs": DEFAULT_EPOCHS} | given)
    except ValidationError as error:
        first = error.errors()[0]
        option = "--" + str(first["loc"][0]).replace("_", "-")
        raise Failure(
            ExitCode.USAGE, f"argument {option}: {first['msg']} (see lab baseline --help)"
        ) from None


def _show_progress(done: float, loss: float) -> None:
    if sys.stderr.isatty():
        print(f"\r{done:6.1%}  loss {loss:.3f} ", end="", file=sys.stderr, flush=True)


def _wipe_progress() -> None:
    if sys.stderr.isatty():
        print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)


def _write_summary(path: Path, text: str) -> None:
    try:
        replace_file(path, text.encode() + b"\n")
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror}") from None


def _parser() -> argparse.ArgumentParser:
    parser = UsageParser(
        prog="flockwise lab baseline",
        description="Train the federation's model centrally, to have something to compare with.",
        epilog="example: flockwise lab baseline --data images --epochs 5 --summary baseline.json",
        allow_abbrev=False,
    )
    training = parser.add_argument_group("training (defaults as in a federation)")
    defaults = TrainingPlan(epochs=DEFAULT_EPOCHS)
    for name, kind in _PLAN_OPTIONS.items():
        training.add_argument(
            "--" + name.replace("_", "-"),
            type=kind,
            metavar=name.split("_")[-1].upper(),
            help=f"{TrainingPlan.model_fields[name].description}"
            f" (default: {getattr(defaults, name)})",
        )
    training.add_argument(
        "--augment",
        action=argparse.BooleanOptionalAction,
        help=f"{TrainingPlan.model_fields['augment'].description} (default: on)",
    )
    training.add_argument(
        "--threads",
        type=whole(0, 1024),
        default=1,
        help="threads of torch, 0 for all physical cores; small batches gain little from more"
        " than one (default: 1)",
    )
    report = parser.add_argument_group("report")
    report.add_argument("--summary", type=Path, metavar="FILE", help="write the result as JSON")
    report.add_argument("--json", action="store_true", help="print the result as JSON")
    add_image_options(parser)
    return parser
