"""What settings are made of: kinds of values, and the section that holds them.

Where a setting may be absent, the word `none` says so, as TOML, an environment and a command line
have no other way to.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

# `allowed` is what help and errors say in place of a pattern.
Identifier = Annotated[
    str,
    Field(
        pattern=r"^[a-z0-9-]{1,40}$",
        json_schema_extra={"allowed": "1 to 40 characters of a-z, 0-9 and -"},
    ),
]
# No dots: some brokers take them for levels.
TopicPrefix = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9_-]{1,40}(/[A-Za-z0-9_-]{1,40})?$",
        json_schema_extra={
            "allowed": "one or two words of letters, digits, _ and -, as in site/flockwise"
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
Strategy = Literal["fedbuff", "fedavg", "fedasync", "memory"]
BrokerKind = Literal["auto", "mosquitto", "embedded"]
Codec = Literal["float32", "bf16", "int8", "int4", "topk", "int8+zlib", "int4+zlib"]
ModelCodec = Literal["float32", "bf16", "int8"]
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

Hours = Annotated[str, Field(pattern=r"^([01]?[0-9]|2[0-3])-([01]?[0-9]|2[0-4])$")]


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
