"""The options that say how images are cut: made from the section of the settings that says it."""

from __future__ import annotations

import argparse
from typing import Any

from pydantic import ValidationError

from config.catalogue import Kind, Setting, catalogue, nearest
from config.failures import ExitCode, Failure
from config.partition import OF_KINDS, Partition
from experiments.numbers import positive

_SETTINGS = catalogue(Partition).settings


def add_partition_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that `chosen_partition` reads."""
    group = parser.add_argument_group("who gets what (defaults in brackets)")
    group.add_argument(
        "--dirichlet",
        type=positive,
        metavar="ALPHA",
        help="short for --kind dirichlet --alpha ALPHA",
    )
    for setting in _SETTINGS:
        _add(group, setting)


def chosen_partition(options: argparse.Namespace) -> Partition:
    """The partition that the options choose.

    Raises:
        Failure: a number is out of bounds, or options do not go together.
    """
    given: dict[str, Any] = {
        name: value
        for name in (setting.key for setting in _SETTINGS)
        if (value := getattr(options, name)) is not None
    }
    if options.dirichlet is not None:
        if "kind" in given or "alpha" in given:
            raise _refusal("--dirichlet is short for --kind dirichlet --alpha: give either")
        given |= {"kind": "dirichlet", "alpha": options.dirichlet}
    try:
        rule = Partition.model_validate(given)
    except ValidationError as error:
        detail = error.errors(include_url=False, include_input=False)[0]
        setting = next((one for one in _SETTINGS if one.path == detail["loc"]), None)
        if setting is None:
            raise _refusal(str(detail["ctx"]["error"])) from None
        value = str(given[setting.key])
        guess = nearest(value, setting.choices) if setting.choices else ""
        short = options.dirichlet is not None and setting.key == "alpha"
        where = "--dirichlet" if short else setting.option
        raise _refusal(f"{where} is {value!r}, but must be {setting.allowed}{guess}") from None
    for name in given:
        # Here it is known that somebody wrote it, even where it is what it would be anyway.
        if rule.kind not in OF_KINDS.get(name, (rule.kind,)):
            raise _refusal(f"{name} is for kind {' or '.join(OF_KINDS[name])}, not {rule.kind}")
    return rule


def _add(group: argparse._ArgumentGroup, setting: Setting) -> None:
    if setting.kind is Kind.BOOLEAN:
        group.add_argument(
            setting.option, action="store_true", default=None, help=setting.description
        )
        return
    names = "{" + ",".join(setting.choices) + "}" if setting.choices else setting.kind.value.upper()
    bounds = f"; {setting.bounds.removeprefix('of ')}" if setting.bounds else ""
    group.add_argument(
        setting.option, metavar=names, help=f"{setting.description}{bounds} [{setting.default}]"
    )


def _refusal(reason: str) -> Failure:
    return Failure(ExitCode.USAGE, f"{reason} (see flockwise lab partition --help)")
