"""Runs the references through the engine of a simulation, and tells of them as of a simulation."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from config.simulation import SimulationSettings
from experiments.compare.methods import ELSEWHERE, Kind
from experiments.compare.references import (
    Alone,
    ByItself,
    Central,
    Centrally,
    mean_recall,
    reference_plan,
)
from experiments.simulation.engine import Engine
from experiments.simulation.run import Cast, cast, coordinator_settings, engine_of, world_of
from experiments.simulation.summary import Part, Point, Summary
from federation.compression import Vector
from learning.data import ImageSet
from learning.outcomes import findings
from learning.runtime import prepare_torch

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Reference:
    """What came of one: its story, its summary, and its model Float32[d] where there is one."""

    rows: tuple[dict[str, Any], ...]
    summary: Summary
    model: Vector | None


def run_references(
    wanted: Mapping[Kind, SimulationSettings],
    images: ImageSet,
    passes: float,
    tests: float,
    say: Say,
) -> dict[Kind, Reference]:
    """Train centrally, on each device alone, or both at the same time.

    Args:
        wanted: `central`, `local` or both, with their settings; all but the training is the same.
        passes: how often each image is trained on.
        tests: tests of the central training in a pass.
        say: told how it goes.
    """
    began_s = time.monotonic()
    prepare_torch(1)
    common = next(iter(wanted.values()))
    names = images.class_names
    with world_of(common, images) as world, engine_of(common, world) as engine:
        who = cast(common, world, len(names))
        plans = {
            kind: reference_plan(coordinator_settings(one).training, passes)
            for kind, one in wanted.items()
        }
        central = None
        if "central" in plans:
            central = engine.submit(Centrally(plans["central"], tests, names), 0.0)
        alone = []
        if "local" in plans:
            alone = _each_alone(
                engine, [ByItself(i, plans["local"], names) for i in _all(who)], say
            )
        made: dict[Kind, Reference] = {}
        wall_s = round(time.monotonic() - began_s, 1)
        if central is not None:
            say("central: training")
            result = central.result()
            wall_s = round(time.monotonic() - began_s, 1)
            made["central"] = _told_centrally(wanted["central"], images, result, wall_s)
            note = ", GENERATED" if images.generated else ""
            say(f"central: {made['central'].summary.accuracy:.2%}{note}")
        if alone:
            made["local"] = _told_alone(wanted["local"], images, who, alone, passes, wall_s)
    return made


def _each_alone(engine: Engine, jobs: Sequence[ByItself], say: Say) -> list[Alone]:
    pending = [engine.submit(job, 1.0 + index) for index, job in enumerate(jobs)]
    ended = []
    for index, one in enumerate(pending, 1):
        ended.append(one.result())
        if index % max(1, len(pending) // 10) == 0:
            say(f"local: {index} of {len(pending)} devices")
    return ended


def _told_centrally(
    settings: SimulationSettings, images: ImageSet, central: Central, wall_s: float
) -> Reference:
    rows, curve = [], []
    for number, tested in enumerate(central.tests, 1):
        # As if the typical device had all images, and nothing else to do.
        time_s = round(tested.passes * central.images / settings.fleet.images_per_s, 3)
        figures = tested.evaluation.metrics
        curve.append(Point(number, time_s, 0, 0, figures["accuracy"], figures.get("loss")))
        about = {"version": number, "passes": round(tested.passes, 4), **figures}
        rows.append(
            {"kind": "evaluation", "time_s": time_s, **about, **findings(tested.evaluation)}
        )
    accuracies = [point.accuracy for point in curve]
    summary = _summary(
        settings,
        images,
        wall_s,
        virtual_s=curve[-1].time_s,
        accuracy=accuracies[-1],
        best_accuracy=max(accuracies),
        curve=tuple(curve),
        recall=mean_recall([central.tests[-1].evaluation]),
        model=hashlib.blake2b(central.model.tobytes(), digest_size=16).hexdigest(),
    )
    return Reference(tuple(rows), summary, central.model)


def _told_alone(
    settings: SimulationSettings,
    images: ImageSet,
    who: Cast,
    ended: Sequence[Alone],
    passes: float,
    wall_s: float,
) -> Reference:
    rows: list[dict[str, Any]] = []
    parts = []
    for index, one in zip(_all(who), ended, strict=True):
        slow, train = float(who.slowness[index]), who.shares[index].train
        time_s = round(passes * train * slow / settings.fleet.images_per_s, 3)
        row: dict[str, Any] = {
            "kind": "alone",
            "time_s": time_s,
            "device": who.names[index],
            "steps": one.steps,
        }
        if one.problem:
            row["problem"] = one.problem
        else:
            row |= {**one.test.metrics, "recall": mean_recall([one.test])}
            row |= {f"held_out_{name}": value for name, value in one.own.metrics.items()}
        rows.append(row)
        labels, own = tuple(who.labels[index].tolist()), row.get("held_out_accuracy")
        parts.append(Part(who.names[index], train, labels, round(slow, 4), 0, own))
    last_s = max(row["time_s"] for row in rows)
    tested = [one.test for one in ended if not one.problem]
    mean = fmean(one.metrics["accuracy"] for one in tested) if tested else None
    summary = _summary(
        settings,
        images,
        wall_s,
        virtual_s=last_s,
        accuracy=mean,
        best_accuracy=mean,
        recall=mean_recall(tested),
        parts=tuple(parts),
    )
    return Reference(tuple(rows), summary, None)


def _all(who: Cast) -> range:
    return range(len(who.names))


def _summary(
    settings: SimulationSettings, images: ImageSet, wall_s: float, **facts: Any
) -> Summary:
    """A summary of something that has no versions, no updates and no traffic."""
    nothing: dict[str, Any] = {
        "versions": 0,
        "updates": 0,
        "refused": {},
        "crashes": 0,
        "bytes_up": 0,
        "bytes_down": 0,
        "curve": (),
        "on_device": {},
        "parts": (),
        "model": "",
    }
    return Summary(
        source=images.source,
        generated=images.generated,
        settings=settings.model_dump(mode="json", exclude=ELSEWHERE),
        ending="budget",
        wall_s=wall_s,
        **(nothing | facts),
    )
