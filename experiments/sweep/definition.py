"""A sweep definition of W&B, read from its file: every fault in a line of its own, all at once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from config.catalogue import catalogue, nearest, printable
from config.failures import ExitCode, Failure
from config.simulation import SimulationSettings
from experiments.sweep.distributions import Distribution, read_distribution
from experiments.sweep.halving import Hyperband, read_early_terminate
from experiments.sweep.metrics import DEFAULT_METRIC, Metric, read_metric

METHODS = ("grid", "random", "bayes")
# What a definition may hold besides what is used here, and what it is that is not done with it.
IGNORED = ("program", "command", "job", "image_uri", "controller", "scheduler")
_USED = (
    *("name", "description", "project", "entity", "method", "metric", "parameters"),
    *("early_terminate", "run_cap", "apiVersion", "kind"),
)
# What says how and where a simulation runs is not what it comes to.
FIXED = frozenset(
    {"data", "generated", "engine", "workers", "ray_address", "output", "print_json"}
    | {"log_level", "log_format"}
)


@dataclass(frozen=True, slots=True)
class Definition:
    """What is to be tried, and what for.

    Attributes:
        parameters: by the key of their setting.
        wandb: what W&B is told: all of the file but what would start another program.
        notes: what is said of it before it is carried out.
    """

    source: str
    name: str
    method: str
    metric: Metric
    parameters: Mapping[str, Distribution]
    early_terminate: Hyperband | None
    run_cap: int | None
    project: str | None
    entity: str | None
    wandb: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def varied(self) -> tuple[str, ...]:
        """Names of the parameters that have more than one value."""
        constant = {name for name, one in self.parameters.items() if one.kind == "constant"}
        return tuple(name for name in self.parameters if name not in constant)


def read_definition(path: Path) -> Definition:
    """Read a definition.

    Raises:
        Failure: NO_INPUT where there is no such file, CONFIG with a line for each fault of it.
    """
    told = _read(path)
    faults: list[str] = []
    for key in told:
        if key not in (*_USED, *IGNORED):
            guess = nearest(str(key), (*_USED, *IGNORED))
            faults.append(f"unknown key {printable(str(key))}{guess}")
    method = told.get("method")
    if method not in METHODS:
        faults.append(
            f"method is {printable(repr(method))}, but must be one of grid, random, bayes"
        )
    metric = read_metric(told.get("metric"), faults)
    early = read_early_terminate(told.get("early_terminate"), faults)
    if told.get("early_terminate") is not None and told.get("metric") is None:
        faults.append("early_terminate needs a metric")
    run_cap = told.get("run_cap")
    if run_cap is not None and (type(run_cap) is not int or run_cap < 1):
        faults.append(f"run_cap is {printable(repr(run_cap))}, but must be an integer above 0")
    texts = {key: told.get(key) for key in ("name", "project", "entity", "description")}
    faults += [f"{key} is no text" for key, one in texts.items() if not isinstance(one, str | None)]
    parameters = dict(_parameters(told.get("parameters"), (), faults))
    if method == "grid":
        faults += [
            f"parameters.{key} is {one.kind}, of which a grid has no end"
            for key, one in parameters.items()
            if one.grid() is None
        ]
    if faults:
        raise Failure(ExitCode.CONFIG, "\n".join(f"{path}: {fault}" for fault in faults))
    return Definition(
        source=str(path),
        name=texts["name"] or path.stem,
        method=str(method),
        metric=metric or DEFAULT_METRIC,
        parameters=parameters,
        early_terminate=early,
        run_cap=run_cap,
        project=texts["project"],
        entity=texts["entity"],
        wandb={key: value for key, value in told.items() if key not in IGNORED},
        notes=tuple(_notes(told)),
    )


def _read(path: Path) -> Mapping[str, Any]:
    try:
        told = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except OSError as error:
        message = f"{path}: cannot be read: {error.strerror}"
        raise Failure(ExitCode.NO_INPUT, message) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (at line {mark.line + 1})" if mark is not None else ""
        what = getattr(error, "problem", None) or str(error).partition("\n")[0]
        raise Failure(ExitCode.CONFIG, f"{path}: not YAML: {what}{where}") from None
    if not isinstance(told, dict):
        raise Failure(ExitCode.CONFIG, f"{path}: no sweep definition: not a mapping of keys")
    return told


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """YAML's safe loader, to which 1e-4 is a number, as everybody means it."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"),
    list("-+0123456789."),
)


def _parameters(
    told: Any, above: tuple[str, ...], faults: list[str]
) -> Iterator[tuple[str, Distribution]]:
    """The parameters, flat, in the order of their names: W&B's grid goes through them so."""
    at = ".".join((*above, "parameters"))
    if not isinstance(told, dict) or not told:
        faults.append(f"{at} must name at least one parameter")
        return
    for name in sorted(told, key=str):
        path, inner = (*above, *str(name).split(".")), told[name]
        key = ".".join(path)
        if not isinstance(inner, dict):
            faults.append(f"parameters.{key} must be a mapping, such as {{values: [1, 2]}}")
        elif set(inner) == {"parameters"}:
            yield from _parameters(inner["parameters"], path, faults)
        elif (fault := _not_a_parameter(key, path)) is not None:
            faults.append(fault)
        else:
            found: list[str] = []
            distribution = read_distribution(inner, found)
            faults += [f"parameters.{key} {one}" for one in found]
            if distribution is not None:
                yield key, distribution


def _not_a_parameter(key: str, path: tuple[str, ...]) -> str | None:
    known = catalogue(SimulationSettings)
    if key in FIXED or path[0] == "reporting":
        return f"parameters.{key} is no parameter of a sweep: give it once for all runs"
    if known.find(path) is not None:
        return None
    keys = [one.key for one in known.settings]
    if key in known.sections:
        return (
            f"parameters.{key} is a section: name its settings, such as {key}.{_first(key, keys)}"
        )
    return f"parameters: unknown setting {printable(key)}{nearest(key, keys)}"


def _first(section: str, keys: list[str]) -> str:
    return next(key for key in keys if key.startswith(f"{section}.")).partition(".")[2]


def _notes(told: Mapping[str, Any]) -> Iterator[str]:
    ignored = [key for key in IGNORED if key in told]
    if ignored:
        yield f"{' and '.join(ignored)} not used: what runs is lab simulate"
    metric = told.get("metric")
    if isinstance(metric, dict) and "goal" not in metric:
        yield "metric has no goal: minimize, as W&B takes it"
