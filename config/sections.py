"""The sections of the settings: each setting is defined, explained, bounded and defaulted here,
once. The table of a section in a TOML file, its options and its variables bear its name.

All sections are frozen and refuse what they do not know. Where a setting may be absent, the word
`none` says so, as TOML, an environment and a command line have no other way to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

# `allowed` is what help and errors say in place of a pattern.
Identifier = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9-]{1,40}$",
        json_schema_extra={"allowed": "1 to 40 characters of a-z, 0-9 and -"},
    ),
]
TopicPrefix = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_.-]{1,40}(/[A-Za-z0-9_.-]{1,40})?$",
        json_schema_extra={
            "allowed": "one or two words of letters, digits, _, . and -, as in site/flockwise"
        },
    ),
]
Word = Annotated[
    str,
    Field(
        pattern=r"^[^\x00-\x1f\x7f]{1,200}$",
        json_schema_extra={"allowed": "at most 200 characters"},
    ),
]
TaskName = Annotated[
    str,
    Field(
        pattern=r"^([A-Za-z0-9_-]+|[A-Za-z0-9_.]+:[A-Za-z0-9_.]+)$",
        json_schema_extra={"allowed": "a name or module:factory"},
    ),
]
Password = Annotated[SecretStr, Field(min_length=1)]
Strategy = Literal["fedbuff", "fedavg", "fedasync"]
BrokerKind = Literal["auto", "mosquitto", "embedded"]
Codec = Literal["float32", "int8"]
LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "text", "json"]
WandbMode = Literal["auto", "online", "offline", "off"]


def _read_path(path: Path) -> Path:
    if "\0" in str(path):
        raise ValueError("a path holds no zero bytes")
    try:
        return path.expanduser()
    except RuntimeError as error:
        raise ValueError("the home directory is not known") from error


Location = Annotated[Path, AfterValidator(_read_path)]


class Section(BaseModel):
    """What all settings share: frozen, closed, finite, and careful with secrets."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        hide_input_in_errors=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _read_none(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        optional = {
            name
            for name, field in cls.model_fields.items()
            if type(None) in get_args(field.annotation)
        }
        return {
            key: None if key in optional and value == "none" else value
            for key, value in data.items()
        }


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
        if self.password is not None and self.username is None:
            raise ValueError("password needs a username")
        return self


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


class UploadLimits(Section):
    """What unfinished uploads may take on the gateway; more is put off, or deleted."""

    at_once: int = Field(default=256, ge=1, le=100_000, description="most uploads under way")
    quota_bytes: int = Field(
        default=4 * 2**30, ge=2**20, description="room on disk for unfinished uploads"
    )
    keep_s: float = Field(
        default=7 * 86_400.0,
        ge=60,
        description="seconds that an unfinished upload is kept after its last chunk",
    )


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
    codec: Codec = Field(default="int8", description="how updates are encoded for the link")
    seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the model and the training")


class Aggregation(Section):
    """How updates become a version: when, with what weight, combined how, applied how.

    The defaults are those of the strategy fedbuff; the others change some of them.
    """

    trigger: Literal["rounds", "buffer", "immediate"] = Field(
        default="buffer",
        description="a version for each round of invited devices, each full buffer, or each update",
    )
    buffer_size: int = Field(
        default=10, ge=1, le=100_000, description="updates that fill the buffer (K of FedBuff)"
    )
    deadline_s: float | None = Field(
        default=600.0,
        gt=0,
        description="combine what is there this long after a round began or a buffer's first update"
        " (none: wait for all)",
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the devices invited to a version"
    )
    over_selection: float = Field(
        default=1.0,
        ge=1,
        le=10,
        description="end a round when the invited devices divided by this have delivered",
    )
    min_updates: int = Field(
        default=1, ge=1, le=100_000, description="fewest updates that a deadline may combine"
    )
    wait_for: int = Field(
        default=1, ge=1, le=100_000, description="publish nothing before so many devices are online"
    )
    by_examples: bool = Field(
        default=False, description="weight an update by its number of examples"
    )
    staleness: Literal["constant", "polynomial", "hinge"] = Field(
        default="polynomial", description="how the weight falls with t, the versions missed"
    )
    staleness_exponent: float = Field(
        default=0.5, ge=0, le=10, description="a of polynomial: (1 + t)^-a"
    )
    hinge_slope: float = Field(
        default=10.0, ge=0, le=1000, description="a of hinge: 1 / (1 + a (t - b)) where t > b"
    )
    hinge_knee: int = Field(
        default=4, ge=0, le=10_000, description="b of hinge: full weight up to t = b"
    )
    max_staleness: int = Field(
        default=20, ge=0, le=10_000, description="refuse updates that missed more versions"
    )
    reanchor: bool = Field(
        default=False,
        description="step towards the device's own model, rebuilt from its base (FedAsync)",
    )
    step: Literal["sgd", "momentum", "adam", "yogi"] = Field(
        default="sgd", description="what the server does with the combined update"
    )
    step_size: float = Field(
        default=1.0, gt=0, le=100, description="step of the server (eta; alpha of FedAsync)"
    )
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="decay of the first moment (momentum, adam, yogi)"
    )
    beta2: float = Field(
        default=0.99, ge=0, lt=1, description="decay of the second moment (adam, yogi)"
    )
    epsilon: float = Field(
        default=1e-3, gt=0, le=1, description="floor of the adaptive step (adam, yogi)"
    )

    @model_validator(mode="after")
    def _can_fill(self) -> Self:
        if self.trigger == "buffer" and self.min_updates > self.buffer_size:
            raise ValueError("min_updates must not be greater than buffer_size")
        return self


class Reporting(Section):
    """Where the story of a run is told: Weights & Biases, online or on disk."""

    wandb: WandbMode = Field(
        default="auto", description="auto: online where a key is found, else offline"
    )
    project: Word = Field(default="flockwise", description="project of Weights & Biases")
    group: Word | None = Field(default=None, description="group of runs that belong together")
    run_name: Word | None = Field(default=None, description="name of the run")
