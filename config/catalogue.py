"""Every setting of a role, flat: its key, option and variable, and in words what is allowed.

Read from the JSON schema of the models, so that help and errors can say nothing that the models do
not. One setting has three spellings: `link.port` in a file, `--link-port`, `FLOCKWISE_LINK__PORT`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from typing import Any

from config.settings import Section

VARIABLE_PREFIX = "FLOCKWISE_"


class Kind(Enum):
    """What a value is; the word stands for it in the help."""

    BOOLEAN = "yes/no"
    CHOICE = "choice"
    INTEGER = "integer"
    NUMBER = "number"
    PATH = "path"
    SECRET = "secret"
    TEXT = "text"


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: where it stands in the models, and what may be said of it.

    `allowed` is a phrase of its own, for errors; `bounds` is what its kind does not say already.
    """

    path: tuple[str, ...]
    kind: Kind
    description: str
    allowed: str
    bounds: str
    default: object
    required: bool
    optional: bool
    choices: tuple[str, ...]

    @property
    def section(self) -> str:
        """Name of the section it is in; empty for the role's own settings."""
        return ".".join(self.path[:-1])

    @property
    def key(self) -> str:
        """How it is spelled in a file and in messages: `link.port`."""
        return ".".join(self.path)

    @property
    def option(self) -> str:
        """How it is spelled in the command line: `--link-port`."""
        return "--" + "-".join(self.path).replace("_", "-")

    @property
    def variable(self) -> str:
        """How it is spelled in the environment: `FLOCKWISE_LINK__PORT`."""
        return VARIABLE_PREFIX + "__".join(self.path).upper()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All settings of a role in the order of the models, and what its sections are for."""

    description: str
    settings: tuple[Setting, ...]
    sections: Mapping[str, str]

    def find(self, path: tuple[str, ...]) -> Setting | None:
        """Find the setting at a path, if there is one."""
        return next((setting for setting in self.settings if setting.path == path), None)


@cache
def catalogue(settings_class: type[Section]) -> Catalogue:
    """List the settings of a class, those of its sections included."""
    schema = settings_class.model_json_schema()
    sections: dict[str, str] = {}
    settings = tuple(_walk(schema, schema.get("$defs", {}), (), sections))
    ordered = sorted(settings, key=lambda setting: len(setting.path) > 1)
    return Catalogue(schema["description"], tuple(ordered), sections)


def nearest(word: str, known: Iterable[str]) -> str:
    """Say which of the known words was probably meant: `; did you mean …?`, or nothing."""
    known = tuple(known)
    found = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if not found:
        ends = [one for one in known if one.endswith((f".{word}", f"__{word}", f"-{word}"))]
        found = ends if len(ends) == 1 else []
    return f"; did you mean {found[0]}?" if found else ""


def printable(word: str) -> str:
    """Show a word that somebody wrote so that it stays on its line and is not too long."""
    text = word if word.isprintable() else ascii(word)
    return text if len(text) <= 80 else text[:77] + "..."


def _walk(
    schema: Mapping[str, Any],
    definitions: Mapping[str, Any],
    above: tuple[str, ...],
    sections: dict[str, str],
) -> Iterator[Setting]:
    for name, field in schema["properties"].items():
        path = (*above, name)
        if "$ref" in field:
            inner = definitions[field["$ref"].rpartition("/")[2]]
            sections[".".join(path)] = inner.get("description", "")
            yield from _walk(inner, definitions, path, sections)
        else:
            yield _setting(path, field, required=name in schema.get("required", ()))


def _setting(path: tuple[str, ...], field: Mapping[str, Any], *, required: bool) -> Setting:
    ways = field.get("anyOf", [field])
    value = next(way for way in ways if way.get("type") != "null")
    optional = len(ways) > 1
    kind = _kind(value)
    choices = tuple(value.get("enum", [value["const"]] if "const" in value else []))
    bounds = _bounds(value)
    allowed = _allowed(kind, bounds, choices)
    return Setting(
        path=path,
        kind=kind,
        description=field["description"],
        allowed=f"{allowed}, or none" if optional else allowed,
        bounds=bounds,
        default=field.get("default"),
        required=required,
        optional=optional,
        choices=choices,
    )


def _kind(value: Mapping[str, Any]) -> Kind:
    if "enum" in value or "const" in value:
        return Kind.CHOICE
    if value["type"] == "string":
        return {"path": Kind.PATH, "password": Kind.SECRET}.get(value.get("format", ""), Kind.TEXT)
    return {"boolean": Kind.BOOLEAN, "integer": Kind.INTEGER, "number": Kind.NUMBER}[value["type"]]


def _allowed(kind: Kind, bounds: str, choices: tuple[str, ...]) -> str:
    match kind:
        case Kind.CHOICE:
            return "one of " + ", ".join(choices) if len(choices) > 1 else choices[0]
        case Kind.BOOLEAN:
            return "true or false"
        case Kind.INTEGER:
            return f"an integer {bounds}".rstrip()
        case Kind.NUMBER:
            return f"a number {bounds}".rstrip()
        case Kind.PATH:
            return "a path"
        case Kind.SECRET:
            return "a text that is not empty"
        case Kind.TEXT:
            return bounds or "a text"


def _bounds(value: Mapping[str, Any]) -> str:
    if "allowed" in value:
        return str(value["allowed"])
    names = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
    low, high, above, below = (_plain(value.get(name)) for name in names)
    if low is not None and high is not None:
        return f"from {low} to {high}"
    words = (("of at least", low), ("above", above), ("up to", high), ("below", below))
    return ", ".join(f"{word} {bound}" for word, bound in words if bound is not None)


def _plain(bound: float | None) -> float | None:
    """Write 1.0 as 1: some versions of pydantic give one, some the other."""
    return int(bound) if bound is not None and bound == int(bound) else bound
