"""The settings of each role: one class a role, made of the sections that it needs.

`config.loading.load` fills them from a file, the environment and the command line; in a test or an
experiment they are made directly. Both ways the preset of the chosen strategy lies underneath.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from config.presets import PRESETS, preset
from config.sections import (
    Aggregation,
    CoordinatorLink,
    Eligibility,
    FederationName,
    Link,
    Reporting,
    TrainingPlan,
    Transfer,
    UploadLimits,
)
from config.values import (
    BrokerKind,
    Codec,
    Identifier,
    Location,
    LogFormat,
    LogLevel,
    Section,
    Strategy,
    TaskName,
    WandbMode,
    Word,
)

__all__ = [
    "ROLES",
    "AgentSettings",
    "Aggregation",
    "BrokerKind",
    "BrokerSettings",
    "Codec",
    "CoordinatorLink",
    "CoordinatorSettings",
    "DemoAggregation",
    "DemoSettings",
    "DemoTraining",
    "Eligibility",
    "FederationName",
    "Identifier",
    "Link",
    "Location",
    "LogFormat",
    "LogLevel",
    "Reporting",
    "Section",
    "Settings",
    "Strategy",
    "TaskName",
    "TrainingPlan",
    "Transfer",
    "UploadLimits",
    "WandbMode",
    "Word",
]


class Settings(Section):
    """What the settings of every role have."""

    usage_examples: ClassVar[tuple[str, ...]] = ()

    log_level: LogLevel = Field(default="info", description="least level that is logged")
    log_format: LogFormat = Field(
        default="auto",
        description="lines on stderr for people, or JSON objects for machines (auto: to the"
        " journal, with fields, where systemd runs it, else text)",
    )


class CoordinatorSettings(Settings):
    """The coordinator: keeps the versions of the model and makes new ones from updates."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--link-host broker.example --strategy fedavg --versions 50",
        "--config coordinator.toml --log-level debug",
    )

    state_dir: Location = Field(
        default=Path("coordinator-state"), description="directory of ledger, versions and spool"
    )
    strategy: Strategy = Field(
        default="fedbuff", description="preset that lies under the settings of [aggregation]"
    )
    task: TaskName = Field(default="cifar10", description="what is learned, built in or your own")
    test_set: Location | None = Field(
        default=None, description="chunk whose held-out part each version is tested on"
    )
    evaluate_every: int = Field(
        default=1,
        ge=1,
        description="test each version of this many; what comes during a test is passed over",
    )
    versions: int | None = Field(
        default=None, ge=1, description="end after this many versions (none: go on for ever)"
    )
    threads: int = Field(default=1, ge=1, le=1024, description="threads for evaluation")
    keep_versions: int = Field(
        default=30,
        ge=2,
        le=100_000,
        description="newest versions that are kept on disk, and the updates in them",
    )
    take_over: bool = Field(
        default=False, description="go on although another coordinator seems to be online"
    )
    federation: FederationName = FederationName()
    link: CoordinatorLink = CoordinatorLink()
    transfer: Transfer = Transfer()
    uploads: UploadLimits = UploadLimits()
    aggregation: Aggregation = Aggregation()
    training: TrainingPlan = TrainingPlan()
    reporting: Reporting = Reporting()

    @model_validator(mode="before")
    @classmethod
    def _lay_preset(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        strategy = data.get("strategy", cls.model_fields["strategy"].default)
        if not isinstance(strategy, str) or strategy not in PRESETS:
            return data
        laid = dict(data)
        for section, values in preset(strategy).items():
            over = laid.get(section, {})
            if isinstance(over, dict):
                laid[section] = {**values, **over}
        return laid

    @model_validator(mode="after")
    def _keep_enough(self) -> Self:
        if self.keep_versions < self.transfer.slots:
            raise ValueError("keep_versions must not be less than transfer.slots")
        if self.aggregation.reanchor and self.keep_versions <= self.aggregation.max_staleness:
            raise ValueError("reanchor needs keep_versions to exceed aggregation.max_staleness")
        return self


class AgentSettings(Settings):
    """The agent of a device: fetches versions, trains on its chunk, delivers updates."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--device camera-7 --chunk camera-7.npz --link-host broker.example",
        "--config agent.toml",
    )

    device: Identifier = Field(description="name of this device in its federation")
    chunk: Location = Field(description="the data of this device, an .npz file")
    state_dir: Location = Field(
        default=Path("agent-state"), description="directory of identity, model and outbox"
    )
    task: TaskName = Field(default="cifar10", description="what is learned, built in or your own")
    threads: int = Field(
        default=0, ge=0, le=1024, description="threads for training (0: one a physical core)"
    )
    outbox_limit: int = Field(
        default=4, ge=1, le=64, description="updates kept for delivery before training waits"
    )
    train_alone_after_s: float | None = Field(
        default=60.0,
        ge=0,
        le=86_400,
        description="with nobody there for so long, train again on what it has (none: wait)",
    )
    checkpoint_s: float = Field(
        default=60.0,
        ge=1,
        le=86_400,
        description="seconds between two writes of the training under way to disk",
    )
    worker_linger_s: float = Field(
        default=60.0, ge=0, le=86_400, description="idle time after which the worker is ended"
    )
    slowdown: float = Field(
        default=1.0, ge=1, le=1000, description="make training this many times slower (a straggler)"
    )
    federation: FederationName = FederationName()
    link: Link = Link()
    transfer: Transfer = Transfer()
    eligibility: Eligibility = Eligibility()


class BrokerSettings(Settings):
    """The broker to run where there is none."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--host 0.0.0.0 --port 1883 --insecure",
        "--kind embedded --port 0",
    )

    kind: BrokerKind = Field(
        default="auto", description="auto: mosquitto where it is installed, else embedded"
    )
    host: Word = Field(default="127.0.0.1", description="address to listen on")
    port: int = Field(
        default=1883, ge=0, le=65535, description="port to listen on (0: any that is free)"
    )
    insecure: bool = Field(
        default=False, description="let whoever reaches an address that is not loopback use it"
    )
    state_dir: Location | None = Field(
        default=None, description="directory of the broker's own files (none: a temporary one)"
    )


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


ROLES: tuple[type[Settings], ...] = (
    CoordinatorSettings,
    AgentSettings,
    BrokerSettings,
    DemoSettings,
)
