"""What all runs of a table have in common: how many devices, what they do, what went before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from config.settings import CoordinatorSettings
from experiments.attacks.rules import Rule
from federation.messages import MAX_CHUNK_BYTES

# FedAvg with momentum, half of the devices a round: the quickest way to a good model here.
PAST = {
    "trigger": "rounds",
    "fraction": 0.5,
    "combine": "mean",
    "step": "momentum",
    "step_size": 0.3,
}
PAST_TRAINING = {"epochs": 0.064, "learning_rate": 0.05}


@dataclass(frozen=True, slots=True)
class Scheme:
    """What all runs of a table have in common.

    Attributes:
        alpha: of the Dirichlet cut by label.
        buffer_size: updates in a version.
        warm_up: versions of an honest past (`PAST`), from which all rules start.
        versions: versions that are made then, under attack.
        training: settings of the plan that differ from its defaults.
        aggregation: settings that all rules share.
    """

    devices: int = 20
    alpha: float = 0.5
    buffer_size: int = 10
    warm_up: int = 60
    versions: int = 16
    training: Mapping[str, Any] = field(default_factory=lambda: {"batch_size": 8, "epochs": 0.05})
    aggregation: Mapping[str, Any] = field(default_factory=lambda: {"cooldown": 0})

    def plan(self) -> TrainingPlan:
        """What a device does for a version, under attack.

        Raises:
            Failure: the training settings are none.
        """
        try:
            return TrainingPlan.model_validate({"augment": False, **self.training})
        except ValidationError as error:
            raise _fault("training", error) from None

    def coordinator(self, rule: Rule) -> CoordinatorSettings:
        """The coordinator's settings; the simulation stands in for the test set.

        Raises:
            Failure: the rule's settings do not hold together.
        """
        try:
            return self._settings(
                self.versions,
                self.plan(),
                {"buffer_size": self.buffer_size, **self.aggregation, **rule.settings},
            ).model_copy(update={"test_set": Path("test.npz")})
        except ValidationError as error:
            raise _fault(f"rule {rule.line!r}", error) from None

    def past(self) -> CoordinatorSettings:
        """The coordinator's settings before anyone attacks."""
        plan = self.plan().model_copy(update=PAST_TRAINING)
        return self._settings(max(1, self.warm_up), plan, PAST)

    def _settings(
        self, versions: int, plan: TrainingPlan, aggregation: Mapping[str, Any]
    ) -> CoordinatorSettings:
        return CoordinatorSettings.model_validate(
            {
                "versions": versions,
                "transfer": {"chunk_bytes": MAX_CHUNK_BYTES},
                "training": plan,
                "aggregation": {"wait_for": self.devices, **aggregation},
            }
        )


def _fault(what: str, error: ValidationError) -> Failure:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return Failure(ExitCode.USAGE, f"{what}: {where}: {first['msg']}")
