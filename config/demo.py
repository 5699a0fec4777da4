"""The settings of the demo: a whole federation on one machine."""

from __future__ import annotations

from typing import ClassVar, Self

from pydantic import Field, model_validator

from config.aggregation import Aggregation
from config.sections import Settings, TrainingPlan
from config.values import BrokerKind, Location, LogLevel, Strategy, WandbMode


class DemoTraining(TrainingPlan):
    """What devices do; unless set, as the demo's recipe for the strategy has it, not as shown."""


class DemoAggregation(Aggregation):
    """How versions are made; unless set, as the demo's recipe for the strategy has it."""


class DemoSettings(Settings):
    """A whole federation on this machine: broker, coordinator and devices, shown live."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--devices 5 --versions 10",
        "--strategy fedasync --data images --summary summary.json",
    )

    log_level: LogLevel = Field(
        default="warning", description="least level of the processes' log lines that is shown"
    )
    devices: int = Field(default=5, ge=1, le=64, description="number of devices")
    data: Location | None = Field(
        default=None,
        description="directory of images, train/<class>/* and test/<class>/* (none: CIFAR-10 by"
        " torchvision, or generated images where it cannot be had)",
    )
    generated: bool = Field(
        default=False, description="made-up images, without asking the network for real ones"
    )
    versions: int | None = Field(
        default=None, ge=1, description="versions to make (none: the default of the strategy)"
    )
    strategy: Strategy = Field(default="fedbuff", description="how updates become versions")
    dirichlet: float | None = Field(
        default=None,
        gt=0,
        le=1000,
        description="spread of labels over devices: small is uneven (none: even)",
    )
    examples: int | None = Field(
        default=None, ge=1, description="training images in all (none: all there are)"
    )
    test_examples: int | None = Field(
        default=None, ge=1, description="test images (none: all there are)"
    )
    straggler: float = Field(
        default=1.0, ge=1, le=1000, description="make the last device this many times slower"
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of partition and training")
    broker: BrokerKind = Field(
        default="auto", description="auto: mosquitto where it is installed, else embedded"
    )
    wandb: WandbMode = Field(
        default="auto", description="auto: online where a key is found, else offline"
    )
    run_dir: Location | None = Field(
        default=None, description="directory of the run (none: runs/demo-<time>)"
    )
    summary: Location | None = Field(default=None, description="file for the summary, JSON")
    baseline: Location | None = Field(
        default=None, description="summary of `flockwise lab baseline` to show beside"
    )
    print_json: bool = Field(
        default=False,
        description="print the summary as JSON and nothing else on stdout (--json for short)",
    )
    training: DemoTraining = DemoTraining()
    aggregation: DemoAggregation = DemoAggregation()

    @model_validator(mode="after")
    def _choose_images(self) -> Self:
        if self.generated and self.data is not None:
            raise ValueError("generated and data exclude each other")
        return self
