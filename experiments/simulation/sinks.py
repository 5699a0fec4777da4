"""Where the rows of a simulation go: a file, and what draws curves of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from config.failures import ExitCode, Failure
from config.simulation import SimulationSettings
from coordinator.reporting import Reporter, Sink
from coordinator.sources import NOTHING, Sources
from coordinator.tensorboard_sink import TensorBoardSink
from coordinator.vocabulary import Report
from coordinator.wandb_sink import WandbSink
from experiments.simulation.run import OnRow
from learning.chunks import Images
from learning.data import ImageSet

REPORTS = "reports.jsonl"
# Nobody waits for a simulation that is over, as devices do for a coordinator.
CLOSE_S = 300.0
# Where it runs and how it is told of is no part of what it is.
ELSEWHERE = {"reporting", "output", "print_json", "log_level", "log_format", "ray_address"}


@contextmanager
def telling(
    settings: SimulationSettings,
    directory: Path | None,
    images: ImageSet | None = None,
    sinks: tuple[Sink, ...] = (),
) -> Iterator[OnRow]:
    """Tell the rows to all who are to hear them: the file, what the settings name, further sinks.

    Args:
        directory: for the file, which begins anew; None: there is no file.
        images: of the tests, to be shown with predictions.

    Raises:
        Failure: the file cannot be written.
    """
    if directory is not None:
        _begin_anew(directory / REPORTS)
    path = Path(os.devnull) if directory is None else directory / REPORTS
    clock = _Clock()
    reporter = Reporter(path, (*_sinks(settings, directory or Path(), images), *sinks), clock)
    try:
        yield lambda row: clock.tell(reporter, row)
    finally:
        reporter.close()


def config_of(settings: SimulationSettings) -> dict[str, Any]:
    """What W&B is told of a simulation: all settings that decide it."""
    names = set(SimulationSettings.model_fields) - ELSEWHERE
    return settings.model_dump(mode="json", include=names)


def sources_of(images: ImageSet | None) -> Sources:
    """What sinks look up: the test images, which are in memory."""
    if images is None:
        return NOTHING
    tests = images.test_images

    def look_up(indices: Sequence[int]) -> Images | None:
        known = [index for index in indices if index < len(tests)]
        return np.stack([tests[index] for index in known]) if known == list(indices) else None

    return Sources(images=look_up)


def _begin_anew(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror}") from None


class _Clock:
    """Stands at the virtual time of the row that is being told."""

    def __init__(self) -> None:
        self._now_s = 0.0

    def __call__(self) -> float:
        return self._now_s

    def tell(self, reporter: Reporter, row: dict[str, Any]) -> None:
        self._now_s = row["time_s"]
        facts = {name: value for name, value in row.items() if name not in ("kind", "time_s")}
        reporter.write(Report(row["kind"], facts))


def _sinks(
    settings: SimulationSettings, directory: Path, images: ImageSet | None
) -> Iterator[Sink]:
    reporting, run_id = settings.reporting, token_hex(8)
    if reporting.job_type is None:
        reporting = reporting.model_copy(update={"job_type": "simulation"})
    if reporting.wandb != "off":
        config, sources = config_of(settings), sources_of(images)
        yield WandbSink(reporting, config, directory, run_id, sources, CLOSE_S)
    if reporting.tensorboard is not None:
        yield TensorBoardSink(reporting, reporting.tensorboard, run_id, sources_of(images), CLOSE_S)
