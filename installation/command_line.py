"""The command lines of install, upgrade and uninstall."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser

_NAME = re.compile(r"[a-z0-9-]{1,40}")
_MEMORY = re.compile(r"\d+(\.\d+)?[KMGT%]?|infinity")


@dataclass(frozen=True, slots=True)
class InstallOptions:
    """What an installation may be told."""

    config: Path | None
    broker_config: Path | None
    name: str | None
    source: str | None
    python: str | None
    memory_max: str | None
    dry_run: bool


@dataclass(frozen=True, slots=True)
class UpgradeOptions:
    """What an upgrade may be told."""

    source: str | None
    python: str | None


@dataclass(frozen=True, slots=True)
class UninstallOptions:
    """What taking off may be told."""

    name: str | None
    purge: bool
    dry_run: bool


def read_install(prog: str, argv: Sequence[str], *, role: str) -> InstallOptions:
    """Parse the command line of an install; raises Failure(USAGE) for one that is not good."""
    parser = _parser(prog, f"Set up the {role} on this machine as a service of systemd.")
    whose = "coordinator" if role == "gateway" else role
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"TOML file of the {whose}")
    if role == "gateway":
        parser.add_argument(
            "--broker-config", metavar="FILE", type=Path, help="TOML file of the broker"
        )
    if role == "agent":
        parser.add_argument("--name", help="one of several agents on this machine, by its name")
    if role != "gateway":
        parser.add_argument(
            "--memory-max",
            metavar="SIZE",
            help="memory of all its processes: 700M, 60%% [60%%; broker: 25%%]",
        )
    _add_source(parser)
    _add_dry_run(parser)
    given = parser.parse_args(argv)
    return InstallOptions(
        config=given.config,
        broker_config=getattr(given, "broker_config", None),
        name=_name(prog, getattr(given, "name", None)),
        source=given.source,
        python=given.python,
        memory_max=_memory(prog, getattr(given, "memory_max", None)),
        dry_run=given.dry_run,
    )


def read_upgrade(prog: str, argv: Sequence[str]) -> UpgradeOptions:
    """Parse the command line of an upgrade."""
    parser = _parser(
        prog,
        "Renew Flockwise for all services of this machine; if one does not become ready, go back.",
    )
    _add_source(parser)
    given = parser.parse_args(argv)
    return UpgradeOptions(given.source, given.python)


def read_uninstall(prog: str, argv: Sequence[str], *, role: str) -> UninstallOptions:
    """Parse the command line of an uninstall."""
    parser = _parser(prog, f"Take the {role} off this machine; settings and state stay.")
    if role == "agent":
        parser.add_argument("--name", help="one of several agents on this machine, by its name")
    parser.add_argument("--purge", action="store_true", help="remove settings and state too")
    _add_dry_run(parser)
    given = parser.parse_args(argv)
    return UninstallOptions(_name(prog, getattr(given, "name", None)), given.purge, given.dry_run)


def _parser(prog: str, description: str) -> UsageParser:
    return UsageParser(prog=prog, description=description, allow_abbrev=False)


def _add_source(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="source",
        metavar="WHAT",
        help="what pip installs: a wheel, a directory with the source, or a requirement"
        " [what is running; from /opt/flockwise: the newest release]",
    )
    parser.add_argument(
        "--python", metavar="PROGRAM", help="Python to make the environment with [this one]"
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dry-run", action="store_true", help="show each step and do nothing")


def _name(prog: str, name: str | None) -> str | None:
    if name is not None and not _NAME.fullmatch(name):
        raise Failure(
            ExitCode.USAGE,
            f"--name must be 1 to 40 characters of a-z, 0-9 and - (see {prog} --help)",
        )
    return name


def _memory(prog: str, memory: str | None) -> str | None:
    if memory is not None and not _MEMORY.fullmatch(memory):
        raise Failure(
            ExitCode.USAGE, f"--memory-max must be a size as in 700M or 60% (see {prog} --help)"
        )
    return memory
