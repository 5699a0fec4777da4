"""Which points a definition comes to, and the runs that are made of them. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice, product
from random import Random
from typing import Any, TypeAlias

from config.failures import ExitCode, Failure
from config.loading import Gathered
from config.simulation import SimulationSettings
from config.sweep import SweepSettings
from experiments.sweep.definition import FIXED, Definition

# Values by the keys of their settings.
Point: TypeAlias = Mapping[str, Any]

_MOST_FAULTS = 20


@dataclass(frozen=True, slots=True)
class Run:
    """One simulation of a sweep; `key` is the same for the same settings and images."""

    key: str
    point: Point
    settings: SimulationSettings


def points_of(definition: Definition, count: int | None, seed: int) -> list[Point]:
    """The points of a definition, each once: a grid in W&B's order, or as many draws as asked for.

    Draws are those of a number and a seed: more of them begin with the same ones. Bayes draws at
    random here, as only W&B's server has its model.

    Raises:
        Failure: nothing says how many are to be drawn.
    """
    most = min((one for one in (count, definition.run_cap) if one is not None), default=None)
    if definition.method == "grid":
        values = [one.grid() or () for one in definition.parameters.values()]
        grid = (dict(zip(definition.parameters, one, strict=True)) for one in product(*values))
        return _each_once(list(islice(grid, most)))
    if most is None:
        raise Failure(
            ExitCode.CONFIG,
            f"{definition.source}: method {definition.method} has no end: give --count, or run_cap"
            " in the file",
        )
    return _each_once([_draw(definition, seed, index) for index in range(most)])


def runs_of(
    points: Sequence[Point],
    gathered: Gathered[SweepSettings],
    definition: Definition,
    images: str,
) -> list[Run]:
    """The runs: all points with the first seed, then all with the next.

    Args:
        gathered: all settings but those of the points.
        images: what tells the images from others.

    Raises:
        Failure: settings that no simulation takes, a line for each.
    """
    base = gathered.settings()
    if base.seeds > 1 and "seed" in definition.parameters:
        text = f"{definition.source}: parameters.seed and --seeds exclude each other"
        raise Failure(ExitCode.CONFIG, text)
    runs: dict[str, Run] = {}
    faults: dict[str, None] = {}
    for extra in range(base.seeds):
        for point in points:
            try:
                settings = settings_at(gathered, definition, point, extra)
            except Failure as failure:
                faults.update(dict.fromkeys(failure.message.splitlines()))
                continue
            run = Run(key_of(settings, images), point, settings)
            runs.setdefault(run.key, run)
    if faults:
        told = list(faults)
        more = [f"and {len(told) - _MOST_FAULTS} more"] if len(told) > _MOST_FAULTS else []
        raise Failure(ExitCode.CONFIG, "\n".join(told[:_MOST_FAULTS] + more))
    return list(runs.values())


def settings_at(
    gathered: Gathered[SweepSettings], definition: Definition, point: Point, extra: int = 0
) -> SimulationSettings:
    """The simulation of a point, with the seed that is so many after the first.

    Raises:
        Failure: settings that no simulation takes, a line for each.
    """
    sweep = gathered.settings(nested(point), f"{definition.source}: parameters.")
    of_simulation = sweep.model_dump(include=set(SimulationSettings.model_fields))
    settings = SimulationSettings.model_validate(of_simulation)
    if definition.metric.name.endswith("_to_target") and settings.target is None:
        text = f"{definition.source}: metric.name {definition.metric.name} needs target: --target"
        raise Failure(ExitCode.CONFIG, text)
    return settings.model_copy(update={"seed": settings.seed + extra})


def nested(point: Point) -> dict[str, Any]:
    """The values as a file of settings has them."""
    values: dict[str, Any] = {}
    for key, value in point.items():
        *above, name = key.split(".")
        section = values
        for one in above:
            section = section.setdefault(one, {})
        section[name] = value
    return values


def key_of(settings: SimulationSettings, images: str) -> str:
    """What tells a run from all others: what decides what comes out."""
    decisive = settings.model_dump(mode="json", exclude={*FIXED, "reporting"})
    told = json.dumps([decisive, images], sort_keys=True)
    return hashlib.blake2b(told.encode(), digest_size=8).hexdigest()


def _draw(definition: Definition, seed: int, index: int) -> Point:
    return {
        key: one.draw(Random(f"{seed} {index} {key}")) for key, one in definition.parameters.items()
    }


def _each_once(points: Sequence[Point]) -> list[Point]:
    return list(
        {json.dumps(point, sort_keys=True, default=str): point for point in points}.values()
    )
