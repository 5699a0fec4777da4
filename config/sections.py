"""The sections of the settings: each setting is defined, explained, bounded and defaulted here,
once. The table of a section in a TOML file, its options and its variables bear its name.

All sections are frozen and refuse what they do not know.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from config.values import (
    Codec,
    Hours,
    Identifier,
    Location,
    LogFormat,
    LogLevel,
    ModelCodec,
    Password,
    Section,
    TopicPrefix,
    Word,
)


class Settings(Section):
    """What the settings of every role have."""

    usage_examples: ClassVar[tuple[str, ...]] = ()

    log_level: LogLevel = Field(default="info", description="least level that is logged")
    log_format: LogFormat = Field(
        default="auto",
        description="lines on stderr for people, or JSON objects for machines (auto: to the"
        " journal, with fields, where systemd runs it, else text)",
    )


class FederationName(Section):
    """Which federation this is: the first levels of all its topics."""

    prefix: TopicPrefix = Field(
        default="flockwise",
        description="first level of every topic",
    )
    name: Identifier = Field(default="default", description="the federation on that broker")


class Link(Section):
    """How to reach the broker, and how patient to be with it."""

    host: Word = Field(default="127.0.0.1", description="name or address of the broker")
    port: int = Field(default=1883, ge=1, le=65535, description="port of the broker")
    username: Word | None = Field(default=None, description="name to log in with")
    password: Password | None = Field(default=None, description="password to log in with")
    password_file: Location | None = Field(
        default=None, description="file with that password, in its place"
    )
    tls: bool = Field(default=False, description="encrypt the link and verify the broker")
    ca_file: Location | None = Field(
        default=None, description="certificates to trust, PEM (none: those of the system)"
    )
    cert_file: Location | None = Field(default=None, description="certificate to show, PEM")
    key_file: Location | None = Field(
        default=None, description="private key of that certificate, PEM"
    )
    keepalive_s: int = Field(
        default=30,
        ge=5,
        le=1200,
        description="a link on which no byte moves is given up after one and a half of this",
    )
    backoff_base_s: float = Field(
        default=5.0,
        ge=0.05,
        le=600,
        description="longest wait before the first reconnection; agents that lose a broker"
        " together come back spread over it",
    )
    backoff_cap_s: float = Field(
        default=60.0, ge=0.05, le=3600, description="longest wait before any reconnection"
    )
    give_up_after_s: float | None = Field(
        default=None,
        gt=0,
        description="end with code 69 if the broker was not reached once in this time"
        " (none: keep trying)",
    )

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        if self.backoff_cap_s < self.backoff_base_s:
            raise ValueError("backoff_cap_s must not be less than backoff_base_s")
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together")
        if not self.tls and (self.ca_file or self.cert_file):
            raise ValueError("ca_file, cert_file and key_file need tls to be on")
        if self.password is not None and self.password_file is not None:
            raise ValueError("password and password_file exclude each other")
        if (self.password or self.password_file) and self.username is None:
            raise ValueError("password needs a username")
        return self


class CoordinatorLink(Link):
    """How the coordinator reaches the broker: sooner again than others, as all wait for it."""

    backoff_base_s: float = Field(
        default=1.0, ge=0.05, le=600, description="longest wait before the first reconnection"
    )
    backoff_cap_s: float = Field(
        default=5.0, ge=0.05, le=3600, description="longest wait before any reconnection"
    )

    @model_validator(mode="before")
    @classmethod
    def _take_any_link(cls, data: Any) -> Any:
        return data.model_dump(exclude_unset=True) if type(data) is Link else data


class Transfer(Section):
    """How models and updates are cut, moved and asked for again."""

    chunk_bytes: int = Field(
        default=122_880,
        ge=1024,
        le=1_048_576,
        description="size of a chunk; the default passes any broker that takes 128 KB",
    )
    slots: int = Field(
        default=2, ge=2, le=16, description="versions of the model that the broker retains"
    )
    max_window: int = Field(default=16, ge=1, le=64, description="most chunks under way at a time")
    silence_s: float = Field(
        default=5.0, gt=0, le=3600, description="silence after which an update is offered again"
    )
    patience_s: float = Field(
        default=2.0,
        gt=0,
        le=3600,
        description="wait for a chunk from the broker before asking the coordinator for it",
    )
    model_codec: ModelCodec = Field(
        default="float32",
        description="how the coordinator encodes versions of the model for devices; a change is for"
        " the versions to come",
    )


class UploadLimits(Section):
    """What unfinished uploads may take on the gateway; more is put off, or deleted."""

    at_once: int = Field(default=1024, ge=1, le=100_000, description="most uploads under way")
    quota_bytes: int = Field(
        default=4 * 2**30, ge=2**20, description="room on disk for unfinished uploads"
    )
    keep_s: float = Field(
        default=7 * 86_400.0,
        ge=60,
        description="seconds that an unfinished upload is kept after its last chunk",
    )


class Eligibility(Section):
    """When a device may train; in the middle of a training it pauses, and goes on later."""

    max_temperature_c: float | None = Field(
        default=None, ge=0, le=150, description="not while the hottest sensor shows more"
    )
    max_other_load: float | None = Field(
        default=None, ge=0, le=1024, description="not while other processes use more cores"
    )
    min_free_memory_mib: int = Field(
        default=64, ge=0, le=2**20, description="not while less memory can be had"
    )
    min_free_disk_mib: int = Field(
        default=0, ge=0, le=2**30, description="not while the state's disk has less room"
    )
    on_battery: bool = Field(default=True, description="also while not plugged in")
    min_battery_percent: float = Field(
        default=20.0, ge=0, le=100, description="not plugged in: not while the battery has less"
    )
    hours: Hours | None = Field(
        default=None, description="only in these hours of the local day, such as 22-6"
    )
    duty_cycle: float = Field(
        default=1.0, gt=0.01, le=1, description="share of the time that training takes its cores"
    )

    @property
    def hour_span(self) -> tuple[int, int] | None:
        """From which hour, up to but not including which."""
        if self.hours is None:
            return None
        begin, end = self.hours.split("-")
        return int(begin), int(end)


class Privacy(Section):
    """How much one device's updates may tell of its data, by noise that the device adds itself."""

    noise: float | None = Field(
        default=None,
        ge=0.01,
        le=10_000,
        description="standard deviation of the noise on each element, in units of clip"
        " (none: no noise, and no protection)",
    )
    clip: float = Field(
        default=1.0, gt=0, le=1e6, description="L2 norm that an update is clipped to, before noise"
    )
    delta: float = Field(
        default=1e-5,
        gt=0,
        le=0.1,
        description="delta that epsilon is told for; well below one in the number of devices",
    )
    max_participations: int = Field(
        default=100,
        ge=1,
        le=100_000,
        description="updates after which this device makes no more: epsilon grows with each",
    )
    tell_figures: bool = Field(
        default=False,
        description="with noise, tell losses, accuracies, examples, steps and seconds all the same;"
        " no noise protects them",
    )

    @property
    def is_on(self) -> bool:
        """Whether updates are noised."""
        return self.noise is not None

    @property
    def noise_multiplier(self) -> float:
        """`noise`, where it is on."""
        assert self.noise is not None, "asked for only where updates are noised"
        return self.noise


class TrainingPlan(Section):
    """What a device does with a model and its chunk; it travels with each version."""

    model: Word = Field(default="fast-cnn", description="name of the model to train")
    epochs: float = Field(
        default=1.0, gt=0, le=1000, description="passes over the chunk; may be a fraction"
    )
    batch_size: int = Field(default=16, ge=1, le=8192, description="examples a step")
    learning_rate: float = Field(default=0.05, gt=0, le=100, description="step size of local SGD")
    momentum: float = Field(default=0.0, ge=0, lt=1, description="momentum of local SGD")
    weight_decay: float = Field(default=5e-4, ge=0, le=1, description="L2 penalty of local SGD")
    proximal_mu: float = Field(
        default=0.0, ge=0, le=1000, description="FedProx: pull towards the received model"
    )
    augment: bool = Field(default=True, description="flip and shift the training images")
    codec: Codec = Field(
        default="int8",
        description="how updates are encoded for the link: bf16 makes them half as large, int8 a"
        " quarter, int4 an eighth, topk (the largest of 32) a seventieth; +zlib takes another 15 to"
        " 35 % off; devices make good with the next update for what is lost",
    )
    memory: bool = Field(
        default=False,
        description="devices remember what was taken of them, and send what is new against it; a"
        " ledger keeps to what it began with",
    )
    budget_s: float | None = Field(
        default=None,
        gt=0,
        le=1e7,
        description="end a training at the first step after so many seconds of it, and send what"
        " it gave (none: all epochs)",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the model and the training")
