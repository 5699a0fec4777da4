"""The settings of each role: one class a role, made of the sections that it needs.

`config.loading.load` fills them from a file, the environment and the command line; in a test or an
experiment they are made directly. Both ways the preset of the chosen strategy lies underneath.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from config.aggregation import Aggregation, StandingRules, memory_fault
from config.demo import DemoAggregation, DemoSettings, DemoTraining
from config.presets import laid_over_preset
from config.reporting import Reporting
from config.sections import (
    CoordinatorLink,
    Eligibility,
    FederationName,
    Link,
    Privacy,
    Settings,
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
    "Privacy",
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


class CoordinatorSettings(Settings):
    """The coordinator: keeps the versions of the model and makes new ones from updates."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--membership authority/coordinator --strategy fedavg --versions 50",
        "--config coordinator.toml --log-level debug",
    )

    state_dir: Location = Field(
        default=Path("coordinator-state"), description="directory of ledger, versions and spool"
    )
    strategy: Strategy = Field(
        default="fedbuff",
        description="preset that lies under the settings of [aggregation] and [training]",
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
    membership: Location | None = Field(
        default=None,
        description="directory of its keys, as `flockwise broker init` makes it"
        " (none: membership in state_dir)",
    )
    insecure: bool = Field(
        default=False, description="go on without a membership: nothing is signed or sealed"
    )
    take_over: bool = Field(
        default=False, description="go on although another coordinator seems to be online"
    )
    federation: FederationName = FederationName()
    link: CoordinatorLink = CoordinatorLink()
    transfer: Transfer = Transfer()
    uploads: UploadLimits = UploadLimits()
    aggregation: Aggregation = Aggregation()
    standing: StandingRules = StandingRules()
    training: TrainingPlan = TrainingPlan()
    reporting: Reporting = Reporting()

    @model_validator(mode="before")
    @classmethod
    def _lay_preset(cls, data: Any) -> Any:
        return laid_over_preset(data, str(cls.model_fields["strategy"].default))

    @model_validator(mode="after")
    def _keep_enough(self) -> Self:
        if self.keep_versions < self.transfer.slots:
            raise ValueError("keep_versions must not be less than transfer.slots")
        if self.aggregation.reanchor and self.keep_versions <= self.aggregation.max_staleness:
            raise ValueError("reanchor needs keep_versions to exceed aggregation.max_staleness")
        if self.training.memory and (fault := memory_fault(self.aggregation)) is not None:
            raise ValueError(fault)
        return self


class AgentSettings(Settings):
    """The agent of a device: fetches versions, trains on its chunk, delivers updates."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--device camera-7 --chunk camera-7.npz --state-dir camera-7",
        "--config agent.toml",
    )

    device: Identifier = Field(description="name of this device in its federation")
    chunk: Location = Field(description="the data of this device, an .npz file")
    state_dir: Location = Field(
        default=Path("agent-state"), description="directory of identity, model and outbox"
    )
    membership: Location | None = Field(
        default=None,
        description="directory of its keys, as `flockwise agent join` makes it"
        " (none: membership in state_dir)",
    )
    insecure: bool = Field(
        default=False, description="go on without a membership: nothing is signed or sealed"
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
    privacy: Privacy = Privacy()


class BrokerSettings(Settings):
    """The broker to run where there is none: for the members of an authority, which
    `flockwise broker init` makes, or for a trial on this machine."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--authority authority",
        "--insecure",
        "--kind embedded --port 0 --insecure",
    )

    kind: BrokerKind = Field(
        default="auto", description="auto: mosquitto where it is installed, else embedded"
    )
    authority: Location | None = Field(
        default=None,
        description="directory of the authority whose members may connect, with TLS; needs"
        " mosquitto (none: anybody may, see insecure)",
    )
    host: Word = Field(
        default="127.0.0.1",
        description="address to listen on; with an authority, all (0.0.0.0) unless set",
    )
    port: int = Field(
        default=1883,
        ge=0,
        le=65535,
        description="port to listen on (0: any that is free); with an authority, 8883 unless set",
    )
    insecure: bool = Field(
        default=False,
        description="without an authority: let anybody connect from this machine; other machines"
        " are never let in without one",
    )
    state_dir: Location | None = Field(
        default=None, description="directory of the broker's own files (none: a temporary one)"
    )

    @model_validator(mode="before")
    @classmethod
    def _open_with_authority(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("authority") not in (None, "none"):
            return {"host": "0.0.0.0", "port": 8883, **data}
        return data

    @model_validator(mode="after")
    def _choose_who_may(self) -> Self:
        if self.authority is not None and self.insecure:
            raise ValueError("authority and insecure exclude each other")
        return self


ROLES: tuple[type[Settings], ...] = (
    CoordinatorSettings,
    AgentSettings,
    BrokerSettings,
    DemoSettings,
)
