"""`flockwise lab simulate`: a whole federation in virtual time, before any device is set up."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from config.loading import load
from config.simulation import SimulationSettings
from experiments.images import images_of
from experiments.interruption import cleaned_up
from experiments.simulation.output import SUMMARY, write_again, write_outcome
from experiments.simulation.run import simulate
from experiments.simulation.sinks import telling
from experiments.simulation.summary import Summary, summarize
from experiments.wording import accuracy_text, seconds_text, sparkline


def main(argv: Sequence[str]) -> int:
    """Simulate, show how it goes, and sum it up; 0 also where the target was not reached."""
    settings = load(SimulationSettings, argv, prog="flockwise lab simulate")
    images = images_of(settings)
    with cleaned_up(), _output(settings) as directory, telling(settings, directory, images) as tell:
        show = _Progress(settings, images.generated)

        def on_row(row: dict[str, Any]) -> None:
            tell(row)
            show(row)

        story = simulate(settings, images, on_row)
        summary = summarize(settings, images, story)
        if directory is not None:
            write_outcome(directory, summary, story.course.model)
    if settings.print_json:
        print(summary.as_json().decode(), end="")
    else:
        print("\n".join(in_words(summary)))
    return ExitCode.OK


def in_words(summary: Summary) -> Iterator[str]:
    """The summary for people."""
    on = " ON GENERATED IMAGES" if summary.generated else ""
    refused = sum(summary.refused.values())
    yield (
        f"{summary.versions} versions of {summary.updates} updates in"
        f" {seconds_text(summary.virtual_s)} of virtual time"
        f" ({seconds_text(summary.wall_s)} of this machine's), {refused} refused"
        + (f", {summary.crashes} crashes" if summary.crashes else "")
    )
    if summary.curve:
        accuracies = [point.accuracy for point in summary.curve]
        last = accuracy_text(accuracies[-1], generated=summary.generated)
        best = accuracy_text(max(accuracies), generated=summary.generated)
        yield f"accuracy{on} {sparkline(accuracies, 60)}  {last} in the end, {best} at best"
    if summary.recall:
        worst = min(summary.recall, key=lambda name: summary.recall[name])
        yield f"worst class: {worst}, {summary.recall[worst]:.1%}"
    if summary.on_device:
        own = summary.on_device
        yield (
            f"on the devices' own images: {own['accuracy_mean']:.1%} on average,"
            f" {own['accuracy_worst_decile']:.1%} in the worst decile"
        )
    taken = sorted(part.updates for part in summary.parts)
    yield (
        f"updates of a device: {taken[len(taken) // 2]} (median), {taken[0]} to {taken[-1]};"
        f" {summary.bytes_up / 1e6:.1f} MB up, {summary.bytes_down / 1e6:.1f} MB down"
    )
    yield f"model {summary.model} (the same settings and images give the same)"


class _Progress:
    """A line for each test, on stderr."""

    def __init__(self, settings: SimulationSettings, generated: bool) -> None:
        self._versions = settings.versions
        self._note = " GENERATED, NOT REAL" if generated else ""

    def __call__(self, row: dict[str, Any]) -> None:
        if row["kind"] != "evaluation":
            return
        figures = f"{row['accuracy']:.2%}{self._note}" if "accuracy" in row else "not tested"
        at = f"version {row['version']} of {self._versions}  {seconds_text(row['time_s'])}"
        print(f"{at}  {figures}", file=sys.stderr, flush=True)


@contextmanager
def _output(settings: SimulationSettings) -> Iterator[Path | None]:
    """The directory for what comes of it, with the settings to do the same again."""
    directory = settings.output
    if directory is None:
        yield None
        return
    if (directory / SUMMARY).exists():
        raise Failure(
            ExitCode.CANNOT_WRITE, f"{directory} holds a simulation already; choose another"
        )
    write_again(directory, settings.model_copy(update={"output": None}))
    yield directory
