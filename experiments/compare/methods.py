"""What is compared: each method is the common settings, with its own strategy and file over them.

The common settings are those of `lab simulate`, given as there. A method's own file has settings
of the same kind, and prevails; what would make it another problem than that of the others, such as
the partition or the model, it may not set.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

from config.failures import ExitCode, Failure
from config.loading import load
from config.simulation import SimulationSettings
from config.values import Strategy

PROG = "flockwise lab compare"
STRATEGIES: tuple[str, ...] = get_args(Strategy)
DEFAULT = ("central", "local", "fedavg", "fedasync", "fedbuff", "memory")

Kind: TypeAlias = Literal["central", "local", "federated"]

# Sections in which a method may differ from the others, and settings that it may not touch there.
_OWN = ("strategy", "evaluate_every", "aggregation", "standing", "training", "transfer")
_COMMON = ("training.model", "training.seed")
# What does not decide the outcome, or is told elsewhere.
ELSEWHERE = {"reporting", "output", "data", "log_level", "log_format", "print_json"}
_MOST_VERSIONS = 1_000_000
_NAME = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True, slots=True)
class Method:
    """One way to train.

    Attributes:
        name: what it is called in the report, and its directory.
        settings: all of them, those of its strategy and its file included.
        file: the file with its own settings.
        own: what that file sets, by key.
    """

    name: str
    kind: Kind
    settings: SimulationSettings
    file: str = ""
    own: Mapping[str, str] | None = None


def methods_of(
    names: Sequence[str], files: Mapping[str, Path], argv: Sequence[str]
) -> tuple[Method, ...]:
    """The methods, in the order of the names, and then those that only have a file.

    Args:
        names: known ones, or keys of `files`.
        files: settings of single methods.
        argv: the common settings, as `lab simulate` takes them.

    Raises:
        Failure: unknown names, or settings that are not good.
    """
    wanted = tuple(dict.fromkeys([*names, *files]))
    for name in wanted:
        if not _NAME.fullmatch(name):
            raise _refusal(f"a method's name has 1 to 40 characters of a-z, 0-9 and -, not {name}")
        if name not in DEFAULT and name not in files:
            known = ", ".join(DEFAULT)
            raise _refusal(f"unknown method {name!r}: known are {known}, and --method NAME=FILE")
    return tuple(_method(name, files.get(name), argv) for name in wanted)


def _method(name: str, file: Path | None, argv: Sequence[str]) -> Method:
    own = {} if file is None else _own_settings(file)
    kind: Kind = "central" if name == "central" else "local" if name == "local" else "federated"
    chosen: list[str] = []
    if kind == "federated":
        strategy = own.get("strategy", name if name in STRATEGIES else None)
        if strategy is None:
            raise Failure(
                ExitCode.CONFIG,
                f'{file} names no strategy: write, for example, strategy = "fedbuff"',
            )
        chosen = [f"--strategy={strategy}"]
    elif wrong := next((key for key in own if not key.startswith("training.")), None):
        raise Failure(ExitCode.CONFIG, f"{file}: {wrong} is for federated methods, not {name}")
    # What is wrong with the common settings is told without a word about this file.
    load(SimulationSettings, [*argv, *chosen], prog=PROG)
    try:
        words = [*argv, *chosen, *_as_options(own)]
        settings = load(SimulationSettings, words, prog=PROG)
    except Failure as failure:
        lines = "\n".join(f"{file}: {line}" for line in failure.message.splitlines())
        raise Failure(ExitCode.CONFIG, lines) from None
    told = {key: str(value) for key, value in own.items()}
    return Method(name, kind, _normal(settings), "" if file is None else file.name, told)


def _normal(settings: SimulationSettings) -> SimulationSettings:
    """Without what a comparison decides itself: when a run ends, and where it is written."""
    return settings.model_copy(
        update={
            "target": None,
            "versions": _MOST_VERSIONS,
            "output": None,
            "print_json": False,
        }
    )


def _own_settings(file: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(file.expanduser().read_text(encoding="utf-8"))
    except OSError as error:
        message = f"{file}: cannot be read: {error.strerror}"
        raise Failure(ExitCode.CONFIG, message) from None
    except ValueError as error:
        raise Failure(ExitCode.CONFIG, f"{file}: not TOML: {error}") from None
    flat = dict(_flat(values))
    for key in flat:
        if key.partition(".")[0] not in _OWN or key in _COMMON:
            raise Failure(
                ExitCode.CONFIG,
                f"{file}: {key} is the same for all methods: give it in the common settings",
            )
    return flat


def _flat(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{name}.")
        else:
            yield above + name, value


def _as_options(values: Mapping[str, Any]) -> Iterator[str]:
    for key, value in values.items():
        option = key.replace(".", "-").replace("_", "-")
        if isinstance(value, bool):
            yield f"--{option}" if value else f"--no-{option}"
        else:
            yield f"--{option}={value}"


def _refusal(reason: str) -> Failure:
    return Failure(ExitCode.USAGE, f"{reason} (see {PROG} --help)")
