"""The command line of a role, made from its catalogue: `argparse` does the parsing.

A secret has no option, as every user of a machine can read the command lines of its processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from config.catalogue import Catalogue, Kind, Setting, nearest, printable
from config.failures import ExitCode, Failure

_EPILOG = """\
Each setting may stand in a TOML file (--config), in the environment, or in the command line; what
comes later in this list prevails. --link-port 1884 is FLOCKWISE_LINK__PORT=1884 in the environment,
and in a file:

  [link]
  port = 1884

Paths are relative to the directory in which the command is run.
"""

# A setting cannot be called `json`, as its class has a method of that name.
_SHORT = {"print_json": "--json"}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """What a command line says: the settings by their path, as text, and the file to read."""

    values: dict[tuple[str, ...], str | bool]
    config: Path | None


def parse(
    catalogue: Catalogue, argv: Sequence[str], *, prog: str, examples: Sequence[str] = ()
) -> CommandLine:
    """Parse the arguments of a role; `--help` prints and raises SystemExit(0).

    Raises Failure(USAGE) for what does not parse; values are not looked into here.
    """
    parser = _parser(catalogue, prog, examples)
    namespace, unknown = parser.parse_known_args(argv)
    if unknown:
        _refuse(catalogue, prog, unknown)
    given: dict[str, str | bool] = vars(namespace)
    config = given.pop("config", None)
    return CommandLine(
        values={tuple(key.split(".")): value for key, value in given.items()},
        config=None if config is None else Path(str(config)),
    )


class UsageParser(argparse.ArgumentParser):
    """A parser whose errors are failures of one line."""

    def error(self, message: str) -> NoReturn:
        """Raise Failure(USAGE) where argparse would print and exit."""
        raise Failure(ExitCode.USAGE, f"{message} (see {self.prog} --help)")


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=32, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        # `--a, --no-a` is wider than the column and says little more than `--[no-]a`.
        if isinstance(action, argparse.BooleanOptionalAction):
            return "--[no-]" + action.option_strings[0].removeprefix("--")
        return super()._format_action_invocation(action)


def _parser(catalogue: Catalogue, prog: str, examples: Sequence[str]) -> UsageParser:
    shown = "".join(f"  {prog} {example}\n" for example in examples)
    required = "".join(
        f" {setting.option} {_metavar(setting)}"
        for setting in catalogue.settings
        if setting.required
    )
    parser = UsageParser(
        prog=prog,
        usage=f"{prog} [--config FILE]{required} [options]",
        description=catalogue.description,
        epilog=_EPILOG + (f"\nexamples:\n{shown}" if shown else ""),
        formatter_class=_HelpFormatter,
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
        add_help=False,
    )
    group = parser.add_argument_group("options", "Defaults are in brackets.")
    group.add_argument("-h", "--help", action="help", help="show this and end")
    group.add_argument("--config", metavar="FILE", help="TOML file with settings")
    groups = {"": group}
    for name, description in catalogue.sections.items():
        secrets = "".join(
            f"\n{setting.key} is no option: set {setting.variable} or write it in the file."
            for setting in catalogue.settings
            if setting.section == name and setting.kind is Kind.SECRET
        )
        groups[name] = parser.add_argument_group(f"[{name}]", description + secrets)
    for setting in catalogue.settings:
        if setting.kind is not Kind.SECRET:
            _add(groups[setting.section], setting)
    return parser


def _add(group: argparse._ArgumentGroup, setting: Setting) -> None:
    help_text = _help(setting).replace("%", "%%")
    if setting.kind is Kind.BOOLEAN:
        group.add_argument(
            setting.option,
            *([_SHORT[setting.key]] if setting.key in _SHORT else []),
            dest=setting.key,
            action=argparse.BooleanOptionalAction,
            default=argparse.SUPPRESS,
            help=help_text,
        )
    else:
        group.add_argument(
            setting.option, dest=setting.key, metavar=_metavar(setting), help=help_text
        )


def _help(setting: Setting) -> str:
    bounds = f"; {setting.bounds.removeprefix('of ')}" if setting.bounds else ""
    return f"{setting.description}{bounds} [{_default(setting)}]"


def _default(setting: Setting) -> str:
    if setting.required:
        return "required"
    if setting.kind is Kind.BOOLEAN:
        return "yes" if setting.default else "no"
    return "none" if setting.default is None else str(setting.default)


def _metavar(setting: Setting) -> str:
    if setting.kind is Kind.CHOICE:
        return "{" + ",".join(setting.choices) + "}"
    return str(setting.kind.value).upper()


def _refuse(catalogue: Catalogue, prog: str, unknown: Sequence[str]) -> NoReturn:
    """Name the first option that is unknown; its value is not shown, as it may be a secret."""
    option = next((word for word in unknown if word.startswith("-")), None)
    if option is None:
        raise Failure(ExitCode.USAGE, f"unexpected argument {unknown[0]!r} (see {prog} --help)")
    name = option.partition("=")[0]
    known = {setting.option: setting for setting in catalogue.settings}
    if name in known and known[name].kind is Kind.SECRET:
        where = f"set {known[name].variable} or {known[name].key} in the file"
        raise Failure(ExitCode.USAGE, f"{name} would show a secret to others: {where}")
    guess = nearest(name, (*known, "--config", "--help"))
    raise Failure(ExitCode.USAGE, f"unknown option {printable(name)}{guess} (see {prog} --help)")
