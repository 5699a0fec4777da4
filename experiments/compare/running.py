"""Runs what is missing: each method with each seed, in a directory of its own.

A directory is that of a `lab simulate`, with `run.json` beside it: what was wanted, by which the
run is known again. One that has a summary is over, and is not run again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from config.simulation import SimulationReporting, SimulationSettings
from experiments.compare.budget import Budget, evaluate_every
from experiments.compare.methods import ELSEWHERE, Kind, Method
from experiments.compare.reading import RUN
from experiments.compare.reference_runs import run_references
from experiments.images import images_of
from experiments.made_on import made_on
from experiments.simulation.output import SUMMARY, write_again, write_outcome
from experiments.simulation.run import simulate
from experiments.simulation.sinks import telling
from experiments.simulation.summary import Summary, summarize
from experiments.wording import seconds_text
from federation.compression import Vector
from federation.files import replace_file
from learning.data import ImageSet
from learning.partition import partition, split_held_out

_HOW = {"engine", "workers", "ray_address"}


@dataclass(frozen=True, slots=True)
class Terms:
    """What all methods have in common beside their settings.

    Attributes:
        passes: the budget: how often the training images are gone through.
        tests: how often a method is tested in a pass, about.
    """

    passes: float
    tests: float
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Task:
    """One run: a method with one seed, in its directory."""

    method: Method
    settings: SimulationSettings
    terms: Terms
    directory: Path

    @property
    def name(self) -> str:
        """For lines about it."""
        return f"{self.method.name}, seed {self.settings.seed}"


def run_all(methods: Sequence[Method], terms: Terms, output: Path) -> list[Path]:
    """Run what was not run before; the directories of all, in the order of the methods.

    Raises:
        Failure: a directory holds a run with other settings, or cannot be written; or a run fails.
    """
    tasks = [_task(method, seed, terms, output) for method in methods for seed in terms.seeds]
    for seed in terms.seeds:
        of_seed = [task for task in tasks if task.settings.seed == seed]
        if any(not (task.directory / SUMMARY).exists() for task in of_seed):
            images = _images(of_seed[0].settings)
            missing = [task for task in of_seed if not _is_done(task, _wanted(task, images))]
            _run_missing(missing, images)
        else:
            for task in of_seed:
                _is_done(task, _wanted(task, None))
    return [task.directory for task in tasks]


def _task(method: Method, seed: int, terms: Terms, output: Path) -> Task:
    named = {
        "group": method.settings.reporting.group or "compare",
        "run_name": f"{method.name} {seed}",
    }
    reporting = method.settings.reporting.model_copy(update=named)
    settings = method.settings.model_copy(update={"seed": seed, "reporting": reporting})
    if method.kind == "federated" and "evaluate_every" not in (method.own or {}):
        every = evaluate_every(settings, terms.tests)
        settings = settings.model_copy(update={"evaluate_every": every})
    return Task(method, settings, terms, output / method.name / f"seed-{seed}")


def _run_missing(tasks: Sequence[Task], images: ImageSet) -> None:
    for task in tasks:
        _begin(task, _wanted(task, images), images)
    references: dict[Kind, Task] = {
        task.method.kind: task for task in tasks if task.method.kind != "federated"
    }
    if references:
        plans = {kind: task.settings for kind, task in references.items()}
        terms = tasks[0].terms
        made = run_references(plans, images, terms.passes, terms.tests, _say)
        for kind, reference in made.items():
            task = references[kind]
            unseen = task.settings.model_copy(update={"reporting": SimulationReporting()})
            with telling(unseen, task.directory) as tell:
                for row in reference.rows:
                    tell(row)
            _end(task, reference.summary, reference.model)
    for task in tasks:
        if task.method.kind == "federated":
            _run_federated(task, images)


def _run_federated(task: Task, images: ImageSet) -> None:
    settings, passes = task.settings, task.terms.passes
    each = _training_images(settings, images)
    budget = Budget(passes * each, settings.training)
    note = ", GENERATED" if images.generated else ""
    with telling(settings, task.directory, images) as tell:

        def on_row(row: dict[str, Any]) -> None:
            tell(row)
            budget.take(row)
            if row["kind"] == "evaluation":
                figures = f"{row['accuracy']:.2%}{note}" if "accuracy" in row else "not tested"
                # What was under way at the end comes on top of the budget.
                done = f"{min(budget.spent / each, passes):.2f} of {passes:g} passes"
                _say(f"{task.name}: {done}  {seconds_text(row['time_s'])}  {figures}")

        story = simulate(settings, images, on_row, enough=lambda: budget.is_over)
    summary = summarize(settings, images, story)
    _end(task, replace(summary, ending="budget") if budget.is_over else summary, story.course.model)


def _begin(task: Task, wanted: Mapping[str, Any], images: ImageSet) -> None:
    made = made_on()
    about = {
        **wanted,
        "file": task.method.file,
        "class_names": list(images.class_names),
        "software": _software(made),
        "machine": made["machine"],
    }
    try:
        task.directory.mkdir(parents=True, exist_ok=True)
        replace_file(task.directory / RUN, json.dumps(about, indent=1).encode() + b"\n")
    except OSError as error:
        message = f"cannot write {task.directory}: {error.strerror}"
        raise Failure(ExitCode.CANNOT_WRITE, message) from None


def _end(task: Task, summary: Summary, model: Vector | None) -> None:
    """Leave what a simulation leaves."""
    directory = task.directory
    if task.method.kind == "federated":
        settings = task.settings.model_copy(update={"versions": max(1, summary.versions)})
        write_again(directory, settings)
    write_outcome(directory, summary, model)


def _wanted(task: Task, images: ImageSet | None) -> dict[str, Any]:
    """What decides the run; without images, as far as that is known."""
    settings, method = task.settings, task.method
    wanted = {
        "method": method.name,
        "kind": method.kind,
        "own": dict(method.own or {}),
        "passes": task.terms.passes,
        "tests": task.terms.tests,
        "settings": settings.model_dump(mode="json", exclude=ELSEWHERE | _HOW),
    }
    if images is None:
        return wanted
    return {
        **wanted,
        "source": images.source,
        "generated": images.generated,
        "training_images": len(images.train_labels),
        "test_images": len(images.test_labels),
        "images": hashlib.blake2b(images.train_images.data, digest_size=8).hexdigest(),
    }


def _is_done(task: Task, wanted: Mapping[str, Any]) -> bool:
    if not (task.directory / SUMMARY).exists():
        return False
    try:
        there = json.loads((task.directory / RUN).read_bytes())
    except (OSError, ValueError):
        message = f"{task.directory} holds a simulation of another kind; choose another --output"
        raise Failure(ExitCode.CANNOT_WRITE, message) from None
    if (where := _first_difference(there, wanted)) is not None:
        raise Failure(
            ExitCode.CANNOT_WRITE,
            f"{task.directory} holds a run with another {where}; choose another --output, or"
            " delete that directory",
        )
    _say(f"{task.name}: was run before")
    return True


def _first_difference(there: Any, wanted: Mapping[str, Any], above: str = "") -> str | None:
    for key, value in wanted.items():
        other = there.get(key) if isinstance(there, dict) else None
        if isinstance(value, Mapping):
            if (found := _first_difference(other, value, f"{above}{key}.")) is not None:
                return found
        elif other != value:
            return f"{above}{key} ({other}, now {value})".removeprefix("settings.")
    return None


def _training_images(settings: SimulationSettings, images: ImageSet) -> int:
    """Images that the devices train on; what they hold out is not among them."""
    labels, rule, seed = images.train_labels, settings.partition, settings.seed
    parts = partition(labels, settings.devices, rule, seed=seed)
    return sum(len(split_held_out(labels, part, rule.held_out, seed=seed)[0]) for part in parts)


def _images(settings: SimulationSettings) -> ImageSet:
    """The images of a seed; all images of a folder are read once."""
    if settings.generated or settings.examples or settings.test_examples:
        return images_of(settings)
    return _whole(settings.data)


@cache
def _whole(data: Path | None) -> ImageSet:
    return images_of(SimulationSettings(data=data))


def _software(made: Mapping[str, Any]) -> dict[str, str]:
    versions = {name: text for name, text in made.items() if name != "machine"}
    with suppress(metadata.PackageNotFoundError):
        versions = {"flockwise": metadata.version("flockwise"), **versions}
    return versions


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
