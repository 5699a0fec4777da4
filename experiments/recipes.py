"""What makes each strategy go well on a few devices of one machine: the demo's defaults, as data.

A recipe lies between the presets and what a person sets. `passes` is about how many updates each
device makes in a run; how many versions that gives depends on how many updates a version takes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any

from pydantic import ValidationError

from config.aggregation import memory_fault
from config.failures import ExitCode, Failure
from config.presets import preset
from config.settings import (
    Aggregation,
    DemoAggregation,
    DemoSettings,
    DemoTraining,
    Strategy,
    TrainingPlan,
)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Defaults of one strategy.

    Attributes:
        passes: updates that each device makes in the whole run, about.
        buffer_share: the share of the devices whose updates fill the buffer.
        training, aggregation: settings of these sections that differ from their defaults.
    """

    passes: float
    buffer_share: float = 1.0
    training: Mapping[str, Any] = field(default_factory=dict)
    aggregation: Mapping[str, Any] = field(default_factory=dict)


RECIPES: Mapping[Strategy, Recipe] = {
    "fedbuff": Recipe(
        passes=12,
        buffer_share=0.6,
        training={"augment": False},
        aggregation={"deadline_s": 120.0},
    ),
    "fedavg": Recipe(
        passes=12,
        training={"augment": False},
        aggregation={"deadline_s": 180.0},
    ),
    "fedasync": Recipe(
        passes=12,
        training={"augment": False},
    ),
    "memory": Recipe(
        passes=12,
        buffer_share=0.6,
        training={"augment": False},
        aggregation={"deadline_s": 120.0},
    ),
}


def training_plan(settings: DemoSettings) -> TrainingPlan:
    """What the devices do: the preset, over it the recipe, and over that what was set."""
    chosen = settings.training.model_dump(exclude_unset=True)
    recipe = {
        **preset(settings.strategy).get("training", {}),
        **RECIPES[settings.strategy].training,
    }
    return TrainingPlan.model_validate({"seed": settings.seed, **recipe, **chosen})


def aggregation(settings: DemoSettings) -> Aggregation:
    """How versions are made: the preset, over it the recipe, and over that what was set.

    Raises:
        Failure: it does not hold together, or waits for more updates than there are devices.
    """
    recipe = RECIPES[settings.strategy]
    values = {
        "wait_for": settings.devices,
        "buffer_size": max(1, ceil(round(recipe.buffer_share * settings.devices, 6))),
        **recipe.aggregation,
        **settings.aggregation.model_dump(exclude_unset=True),
    }
    try:
        rule = Aggregation.model_validate({**preset(settings.strategy)["aggregation"], **values})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise Failure(ExitCode.CONFIG, f"[aggregation] {message}") from None
    if training_plan(settings).memory and (fault := memory_fault(rule)) is not None:
        raise Failure(ExitCode.CONFIG, fault)
    needed = ["wait_for", "min_updates", *(["buffer_size"] if rule.trigger == "buffer" else [])]
    for name in needed:
        if getattr(rule, name) > settings.devices:
            raise Failure(
                ExitCode.CONFIG,
                f"aggregation.{name} is {getattr(rule, name)}, but there are only"
                f" {settings.devices} devices, and a version takes one update of each",
            )
    return rule


def updates_per_version(rule: Aggregation, devices: int) -> int:
    """How many updates a version takes, if all goes well."""
    match rule.trigger:
        case "rounds":
            return max(1, round(rule.fraction * devices / rule.over_selection))
        case "buffer":
            return rule.buffer_size
        case "immediate":
            return 1


def versions(settings: DemoSettings) -> int:
    """How many versions are made: what was set, or what the recipe's passes give."""
    if settings.versions is not None:
        return settings.versions
    each = updates_per_version(aggregation(settings), settings.devices)
    return ceil(RECIPES[settings.strategy].passes * settings.devices / each)


def resolved(settings: DemoSettings) -> DemoSettings:
    """The same run with nothing left to a recipe, and no file of it named: to run it again."""
    plan, rule = training_plan(settings), aggregation(settings)
    return settings.model_copy(
        update={
            "training": DemoTraining.model_validate(plan.model_dump()),
            "aggregation": DemoAggregation.model_validate(rule.model_dump()),
            "versions": versions(settings),
            "summary": None,
            "run_dir": None,
        }
    )


def evaluate_every(settings: DemoSettings) -> int:
    """Test about once in a pass of all devices: a test takes time that they need on two cores."""
    each = updates_per_version(aggregation(settings), settings.devices)
    return max(1, settings.devices // each)
