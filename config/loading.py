"""Settings from all their sources: defaults < preset < file < environment < command line.

Each value keeps its origin until it is known to be good, so that an error can say which file,
variable or option it came from. The models alone decide what is good.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from pydantic import SecretStr, ValidationError, create_model
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, EnvSettingsSource, TomlConfigSettingsSource

from config.catalogue import (
    VARIABLE_PREFIX,
    Catalogue,
    Kind,
    Setting,
    catalogue,
    nearest,
    printable,
)
from config.failures import ExitCode, Failure
from config.options import parse
from config.settings import ROLES, Settings

CONFIG_VARIABLE = VARIABLE_PREFIX + "CONFIG"

S = TypeVar("S", bound=Settings)


def load(
    settings_class: type[S],
    argv: Sequence[str],
    *,
    prog: str,
    environ: Mapping[str, str] = os.environ,
) -> S:
    """Gather and check the settings of a role.

    `argv` are the arguments after the command, `prog` the command as help shows it. `--help` prints
    and raises SystemExit(0). Raises Failure(USAGE) where the command line does not parse, and
    Failure(CONFIG) for any other bad input: a line for each error.
    """
    return gather(settings_class, argv, prog=prog, environ=environ).settings()


def gather(
    settings_class: type[S],
    argv: Sequence[str],
    *,
    prog: str,
    environ: Mapping[str, str] = os.environ,
) -> Gathered[S]:
    """What all sources say, not checked yet: for who lays more over it, as `load` does not.

    Raises Failure(USAGE) where the command line does not parse, and Failure(CONFIG) where the file
    is none.
    """
    known = catalogue(settings_class)
    line = parse(known, argv, prog=prog, examples=settings_class.usage_examples)
    file = line.config or (Path(name) if (name := environ.get(CONFIG_VARIABLE)) else None)
    given: dict[tuple[str, ...], _Given] = {}
    problems: list[str] = []
    if file is not None:
        values = _read_file(settings_class, file)
        given.update(_given_by_file(known, values, f"{file}: ", problems))
    given.update(_given_by_environment(settings_class, known, environ, problems))
    for setting in known.settings:
        if setting.path in line.values:
            given[setting.path] = _Given(setting.option, line.values[setting.path])
    return Gathered(settings_class, given, tuple(problems))


@dataclass(frozen=True, slots=True)
class Gathered(Generic[S]):
    """Values with where each was given, and what was wrong with the sources themselves."""

    settings_class: type[S]
    given: Mapping[tuple[str, ...], _Given]
    problems: tuple[str, ...]

    def settings(self, over: Mapping[str, Any] | None = None, where: str = "") -> S:
        """Check the values.

        Args:
            over: further values, as a file of settings has them; they prevail.
            where: what messages name before the name of one of those.

        Raises:
            Failure: CONFIG, with a line for each error.
        """
        known = catalogue(self.settings_class)
        problems = list(self.problems)
        given = {**self.given, **dict(_given_by_file(known, over or {}, where, problems))}
        try:
            settings = self.settings_class.model_validate(_nested(given))
        except ValidationError as error:
            details = error.errors(include_url=False, include_input=False)
            problems += [_explain(known, given, detail) for detail in details]
        if problems:
            raise Failure(ExitCode.CONFIG, "\n".join(problems))
        return settings


def to_environment(settings: Settings, environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Make the environment in which a child process loads exactly these settings.

    It is `environ` without what it says to Flockwise, and with a variable for each setting. Secrets
    are among them: the environment of a process is its owner's alone.
    """
    variables = {
        name: value for name, value in environ.items() if not name.startswith(VARIABLE_PREFIX)
    }
    for setting in catalogue(type(settings)).settings:
        value = reduce(getattr, setting.path, settings)
        variables[setting.variable] = _as_text(value)
    return variables


@dataclass(frozen=True, slots=True)
class _Given:
    """A value that somebody gave, and where."""

    where: str
    value: object


def _read_file(settings_class: type[Settings], file: Path) -> dict[str, Any]:
    # The source passes over a file that is not there; a person who names one wants to know.
    try:
        lines = file.expanduser().read_bytes().count(b"\n") + 1
        return TomlConfigSettingsSource(_for_sources(settings_class), file).toml_data
    except OSError as error:
        raise Failure(ExitCode.CONFIG, f"{file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise Failure(ExitCode.CONFIG, f"{file}: not UTF-8 (at line {line})") from error
    except ValueError as error:
        text = str(error).replace("end of document", f"line {lines}, the last")
        raise Failure(ExitCode.CONFIG, f"{file}: not TOML: {text}") from error
    except RecursionError as error:
        raise Failure(ExitCode.CONFIG, f"{file}: not TOML: nested too deeply") from error


def _given_by_file(
    known: Catalogue,
    values: Mapping[str, Any],
    where: str,
    problems: list[str],
    above: tuple[str, ...] = (),
) -> Iterator[tuple[tuple[str, ...], _Given]]:
    keys = [setting.key for setting in known.settings]
    for name, value in values.items():
        path = (*above, name)
        key = ".".join(path)
        if key in known.sections and isinstance(value, dict):
            yield from _given_by_file(known, value, where, problems, path)
        elif key in known.sections:
            # What stands there is not shown: it may be the password of that section.
            problems.append(f"{where}{key} must be a section: [{key}]")
        elif known.find(path) is not None:
            yield path, _Given(where + key, value)
        else:
            guess = nearest(key, (*keys, *known.sections))
            problems.append(f"{where}unknown setting {printable(key)}{guess}")


def _given_by_environment(
    settings_class: type[Settings],
    known: Catalogue,
    environ: Mapping[str, str],
    problems: list[str],
) -> Iterator[tuple[tuple[str, ...], _Given]]:
    mine = {setting.variable: setting for setting in known.settings}
    for name in environ:
        if name.startswith(VARIABLE_PREFIX) and name not in mine and not _is_foreign(name):
            guess = nearest(name, (*mine, CONFIG_VARIABLE))
            problems.append(f"unknown variable {printable(name)}{guess}")
    source = _Environment(
        _for_sources(settings_class),
        {name: value for name, value in environ.items() if name in mine},
    )
    values = source()
    for setting in known.settings:
        value: Any = values
        for name in setting.path:
            value = value.get(name) if isinstance(value, dict) else None
        if value is not None:
            yield setting.path, _Given(setting.variable, value)


def _is_foreign(name: str) -> bool:
    """Whether a variable is meant for another role: one environment may serve several."""
    return name == CONFIG_VARIABLE or any(
        name == setting.variable for role in ROLES for setting in catalogue(role).settings
    )


class _Environment(EnvSettingsSource):
    """The source of pydantic-settings, over a mapping of our choice; empty values are not set."""

    def __init__(self, settings_class: type[BaseSettings], environ: Mapping[str, str]) -> None:
        self._environ = environ
        super().__init__(settings_class, env_prefix=VARIABLE_PREFIX, env_nested_delimiter="__")

    def _load_env_vars(self) -> Mapping[str, str | None]:
        return {name.lower(): value for name, value in self._environ.items() if value}


@cache
def _for_sources(settings_class: type[Settings]) -> type[BaseSettings]:
    """The same fields on the base class that the sources of pydantic-settings ask for."""
    bases = cast("tuple[type[BaseSettings], ...]", (settings_class, BaseSettings))
    return create_model("Sources", __base__=bases)


def _nested(given: Mapping[tuple[str, ...], _Given]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for path, one in given.items():
        section = values
        for name in path[:-1]:
            section = section.setdefault(name, {})
        section[path[-1]] = one.value
    return values


def _explain(
    known: Catalogue, given: Mapping[tuple[str, ...], _Given], detail: ErrorDetails
) -> str:
    """Tell an error of the models in one line: where, what it is, what is allowed."""
    setting = next((s for s in known.settings if s.path == detail["loc"][: len(s.path)]), None)
    own_words = str(detail["ctx"]["error"]) if detail["type"] == "value_error" else None
    if setting is None:
        return _explain_section(known, given, detail["loc"], own_words or detail["msg"])
    if setting.path not in given:
        return (
            f"{setting.key} is required: give {setting.option}, {setting.variable},"
            f" or {setting.key} in the file"
        )
    one = given[setting.path]
    if own_words is not None:
        return f"{one.where} is {_told(setting, one)}, but {own_words}"
    guess = nearest(str(one.value), setting.choices) if setting.choices else ""
    return f"{one.where} is {_told(setting, one)}, but must be {setting.allowed}{guess}"


def _explain_section(
    known: Catalogue,
    given: Mapping[tuple[str, ...], _Given],
    path: tuple[str | int, ...],
    message: str,
) -> str:
    """Tell that settings do not go together, and which of those named were given, and where."""
    named = set(re.findall(r"\w+", message))
    told = [
        f"{given[setting.path].where} is {_told(setting, given[setting.path])}"
        for setting in known.settings
        if setting.path in given and setting.path[-1] in named
        if not path or setting.path[:-1] == path
    ]
    section = f"[{'.'.join(map(str, path))}] " if path else ""
    return section + message + (f" ({', '.join(told)})" if told else "")


def _told(setting: Setting, one: _Given) -> str:
    return "(not shown)" if setting.kind is Kind.SECRET else _shown(one.value)


def _shown(value: object) -> str:
    try:
        return printable(repr(value))
    except ValueError:  # an integer of thousands of digits
        return "too long to show"


def _as_text(value: object) -> str:
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case SecretStr():
            return value.get_secret_value()
        case _:
            return str(value)
