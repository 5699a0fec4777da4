"""A sweep that W&B leads: it says what to try next, and its agent here tries it.

The agent calls back in a thread of its own, with one run of W&B at a time; the rows of a simulation
go there as those of a federation do. More agents, on other machines, join with --join.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure, first_line
from config.reporting import Reporting
from config.simulation import SimulationSettings
from coordinator.reporting import Row as Reported
from coordinator.sink_thread import SinkThread
from coordinator.wandb_rows import RowLog
from experiments.simulation.sinks import CLOSE_S, config_of, sources_of
from experiments.sweep.definition import Definition
from experiments.sweep.local import Picker
from experiments.sweep.metrics import AT_TARGET
from experiments.sweep.points import Point, Run
from experiments.sweep.rows import Row
from experiments.sweep.single import Rules, carry_out
from federation.files import replace_file
from learning.data import ImageSet

SWEEP_ID = "wandb-sweep"

# From the values of a point to its run. Raises Failure for settings that no simulation takes.
MakeRun = Callable[[Point], Run]


@dataclass(frozen=True, slots=True)
class Where:
    """Which sweep of W&B: an id, in a project; a new one where there is no id."""

    entity: str | None
    project: str
    sweep: str | None = None


def lead(
    definition: Definition,
    where: Where,
    rules: Rules,
    reporting: Reporting,
    make_run: MakeRun,
    picker: Picker,
    count: int | None,
    on_row: Callable[[Row], None],
) -> str:
    """Work on a sweep until W&B, or the count, says that it is over; the sweep's id.

    Args:
        on_row: told of each run that is over.

    Raises:
        Failure: W&B cannot be had, or does not take the sweep.
    """
    os.environ.setdefault("WANDB_SILENT", "true")
    import wandb  # noqa: PLC0415 - a second of imports that nobody else need wait for

    sweep = where.sweep
    try:
        # What W&B has to say is for people; stdout may be for a program.
        with redirect_stdout(sys.stderr):
            if sweep is None:
                told = dict(definition.wandb)
                sweep = wandb.sweep(told, entity=where.entity, project=where.project)
                _keep(sweep, rules.output)

            def attempt() -> None:
                _attempt(wandb, definition, rules, reporting, make_run, picker, on_row)

            wandb.agent(
                sweep, function=attempt, entity=where.entity, project=where.project, count=count
            )
    except Failure:
        raise
    except Exception as error:  # of the network, the key, the server: W&B has many kinds
        reason = first_line(error)
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"W&B: {reason}; --reporting-wandb offline sweeps without it",
        ) from None
    return sweep


def kept_sweep(output: Path | None) -> str | None:
    """The sweep that an output directory belongs to, if any."""
    if output is None:
        return None
    try:
        return (output / SWEEP_ID).read_text(encoding="utf-8").strip() or None
    except OSError:
        return None


def where_of(sweep: str | None, entity: str | None, project: str) -> Where:
    """Where the sweep is: an id may name project and entity before it, as those of W&B do."""
    *above, id = (sweep or "").split("/")
    if above:
        project = above[-1]
    if len(above) > 1:
        entity = above[-2]
    return Where(entity, project, id or None)


def _keep(sweep: str, output: Path | None) -> None:
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        replace_file(output / SWEEP_ID, sweep.encode() + b"\n")


def _attempt(
    wandb: Any,
    definition: Definition,
    rules: Rules,
    reporting: Reporting,
    make_run: MakeRun,
    picker: Picker,
    on_row: Callable[[Row], None],
) -> None:
    """One run, as the agent asks for it: what to try is in the run's configuration."""
    directory = rules.output or Path()
    run = wandb.init(
        job_type=reporting.job_type or "sweep",
        dir=directory,
        settings=wandb.Settings(console="off"),
    )
    try:
        mine = make_run(point_of(definition, dict(run.config)))
    except Failure as failure:
        print(failure.message, file=sys.stderr, flush=True)
        run.finish(exit_code=1)
        return
    images = picker(mine.settings)
    _describe(run, mine.settings)
    sink = SinkThread(
        "wandb", lambda rows: _log(wandb, run, reporting, images, rows), close_s=CLOSE_S
    )
    row = carry_out(mine, rules, images, sinks=(sink,))
    if row is not None:
        figures = {name: getattr(row, name) for name in AT_TARGET} | {"virtual_s": row.virtual_s}
        with suppress(Exception):  # whatever W&B fails with, the figures are kept here
            run.log({name: value for name, value in figures.items() if value is not None})
            run.finish(exit_code=1 if row.problem else 0)
        on_row(row)


def point_of(definition: Definition, config: Mapping[str, Any]) -> Point:
    """The values that W&B chose, by the keys of their settings."""
    return {key: _value(config, key) for key in definition.parameters}


def _value(config: Mapping[str, Any], key: str) -> Any:
    """A value by its key, or, where the definition nests its parameters, by the keys on the way."""
    if key in config:
        return config[key]
    head, _, rest = key.partition(".")
    inner = config.get(head)
    return _value(inner, rest) if rest and isinstance(inner, Mapping) else None


def _describe(run: Any, settings: SimulationSettings) -> None:
    """Tell W&B the settings that the sweep does not; those it does are not ours to change."""
    told = dict(run.config)
    rest = {name: value for name, value in config_of(settings).items() if name not in told}
    run.config.update(rest)


def _log(
    wandb: Any, run: Any, reporting: Reporting, images: ImageSet, rows: Iterator[Reported]
) -> None:
    log = RowLog(wandb, run, run.id, reporting, sources_of(images))
    log.begin()
    for row in rows:
        log.take(row)
    log.close()
