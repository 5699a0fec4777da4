"""The sinks that a coordinator's settings ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from config.settings import CoordinatorSettings
from coordinator.reporting import Reporter, Sink
from coordinator.sources import NOTHING, Sources, earlier_rows, images_of
from coordinator.tensorboard_sink import TensorBoardSink
from coordinator.versions import Versions
from coordinator.wandb_sink import WandbSink

REPORTS = "reports.jsonl"


def open_reporter(
    settings: CoordinatorSettings, directory: Path, run_id: str, versions: Versions
) -> Reporter:
    """The reports of a coordinator in its state directory, with their sinks.

    Raises:
        Failure: the file cannot be written.
    """
    sources = Sources(
        checkpoint=lambda version: (
            versions.checkpoint_path(version) if versions.has(version) else None
        ),
        images=NOTHING.images if settings.test_set is None else images_of(settings.test_set),
        test_set=settings.test_set,
        earlier=earlier_rows(directory / REPORTS),
    )
    return Reporter(directory / REPORTS, tuple(_sinks(settings, directory, run_id, sources)))


def _sinks(
    settings: CoordinatorSettings, directory: Path, run_id: str, sources: Sources
) -> Iterator[Sink]:
    reporting = settings.reporting
    if reporting.wandb != "off":
        # Where it runs and how it is told of is no part of what it is.
        config = settings.model_dump(mode="json", exclude={"link", "reporting"})
        yield WandbSink(reporting, config, directory, run_id, sources)
    if reporting.tensorboard is not None:
        yield TensorBoardSink(reporting, reporting.tensorboard, run_id, sources)
