"""The settings of a simulation: a federation in virtual time, on devices as they are modelled."""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from config.aggregation import Aggregation, StandingRules, memory_fault
from config.partition import Partition
from config.presets import laid_over_preset
from config.reporting import Reporting
from config.sections import Settings, TrainingPlan, Transfer
from config.values import Location, Section, Strategy, WandbMode


class Fleet(Section):
    """What the simulated devices are like: how fast, how often there, on what links."""

    images_per_s: float = Field(
        default=100.0, gt=0, le=1e9, description="images a second that the typical device trains on"
    )
    speed: Literal["equal", "half_normal", "lognormal"] = Field(
        default="equal",
        description="how the time for an image differs: not, as |N(0, 1)| (FedBuff), or as"
        " exp(spread N(0, 1)); the median device is the typical one",
    )
    spread: float = Field(default=1.0, gt=0, le=5, description="spread of lognormal speeds")
    jitter: float = Field(
        default=0.1, ge=0, lt=1, description="a training takes up to this share longer or shorter"
    )
    startup_s: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="how much longer the first training of a device takes, as torch is loaded",
    )
    overhead_s: float = Field(
        default=0.0,
        ge=0,
        le=1e6,
        description="what each training takes beside its steps: loading and testing, and delivery",
    )
    stragglers: float = Field(
        default=0.0, ge=0, le=1, description="share of the devices that are far slower still"
    )
    straggler_factor: float = Field(
        default=20.0, ge=1, le=10_000, description="how many times slower those are"
    )
    straggler_labels: int = Field(
        default=0,
        ge=0,
        le=1000,
        description="make stragglers of the devices that hold most of this many labels, the first"
        " ones (0: any devices)",
    )
    availability: Literal["always", "on_off", "day_night"] = Field(
        default="always",
        description="when a device is there: always, on and off at random, or in hours of the day;"
        " away, its training rests and it has no link",
    )
    on_s: float = Field(
        default=600.0, gt=0, le=1e9, description="on_off: mean time there (exponential)"
    )
    off_s: float = Field(
        default=600.0, gt=0, le=1e9, description="on_off: mean time away (exponential)"
    )
    hours: float = Field(
        default=10.0, gt=0, le=24, description="day_night: hours of a day that a device is there"
    )
    zones: float = Field(
        default=3.0, ge=0, le=24, description="day_night: hours over which their days begin"
    )
    crash: float = Field(
        default=0.0, ge=0, lt=1, description="share of trainings that a crash of the device ends"
    )
    reboot_s: float = Field(
        default=60.0, ge=0.01, le=1e6, description="time from a crash until it is up again"
    )
    bandwidth: float | None = Field(
        default=None, gt=0, description="bytes a second of each device's link, each way (none: any)"
    )
    latency_s: float = Field(
        default=0.02, ge=0, le=60, description="time of a message to the broker, and from it"
    )


class SimulationReporting(Reporting):
    """Where the story of a simulation is told."""

    wandb: WandbMode = Field(
        default="off", description="auto: online where a key is found, else offline"
    )


class SimulationSettings(Settings):
    """A federation in virtual time: the real cores, real training, and devices as modelled."""

    usage_examples: ClassVar[tuple[str, ...]] = (
        "--data images --devices 100 --partition-kind dirichlet --partition-alpha 0.3"
        " --fleet-speed half_normal --versions 200 --output runs/fedbuff",
        "--config fleet.toml --strategy fedavg --target 0.55 --json",
    )

    devices: int = Field(default=20, ge=1, le=10_000, description="number of devices")
    data: Location | None = Field(
        default=None,
        description="directory of images, train/<class>/* and test/<class>/* (none: CIFAR-10 by"
        " torchvision)",
    )
    generated: bool = Field(
        default=False, description="made-up images, without asking the network for real ones"
    )
    examples: int | None = Field(
        default=None, ge=1, description="training images in all (none: all there are)"
    )
    test_examples: int | None = Field(
        default=None, ge=1, description="test images (none: all there are)"
    )
    strategy: Strategy = Field(
        default="fedbuff", description="preset that lies under the settings of [aggregation]"
    )
    versions: int = Field(
        default=100, ge=1, le=1_000_000, description="end after this many versions"
    )
    target: float | None = Field(
        default=None, gt=0, le=1, description="end as soon as a version tests at this accuracy"
    )
    limit_s: float = Field(
        default=30 * 86_400.0, gt=0, le=1e10, description="end after this much virtual time"
    )
    evaluate_every: int = Field(
        default=1, ge=1, description="test each version of this many, and the last one"
    )
    seed: int = Field(
        default=0, ge=0, lt=2**32, description="decides partition, devices, model and training"
    )
    engine: Literal["local", "inline", "ray"] = Field(
        default="local",
        description="where trainings are computed: in processes of this machine, in this process,"
        " or on a Ray cluster",
    )
    workers: int = Field(
        default=0, ge=0, le=1024, description="processes that train (0: one a core)"
    )
    ray_address: str | None = Field(
        default=None, description="the Ray cluster (none: one on this machine, made for this run)"
    )
    output: Location | None = Field(
        default=None, description="directory for reports.jsonl, summary.json and the model"
    )
    print_json: bool = Field(
        default=False,
        description="print the summary as JSON and nothing else on stdout (--json for short)",
    )
    partition: Partition = Partition()
    fleet: Fleet = Fleet()
    aggregation: Aggregation = Aggregation()
    standing: StandingRules = StandingRules()
    training: TrainingPlan = TrainingPlan()
    transfer: Transfer = Transfer()
    reporting: SimulationReporting = SimulationReporting()

    @model_validator(mode="before")
    @classmethod
    def _lay_preset(cls, data: Any) -> Any:
        return laid_over_preset(data, str(cls.model_fields["strategy"].default))

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.generated and self.data is not None:
            raise ValueError("generated and data exclude each other")
        if self.training.memory and (fault := memory_fault(self.aggregation)) is not None:
            raise ValueError(fault)
        return self
