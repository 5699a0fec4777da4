"""The summary of a run as people read it: pure, a summary in, text out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from experiments.scoreboard import COORDINATOR, VersionRow
from experiments.summary import Summary
from experiments.wording import (
    accuracy_text,
    bytes_text,
    count_text,
    seconds_text,
    sparkline,
)

_COLUMNS = 6
_CURVE = 60


def as_text(summary: Summary, *, beside: Sequence[str] = (), wandb: bool = False) -> str:
    """The whole summary.

    Args:
        beside: lines that follow the accuracies: those of a baseline.
        wandb: whether the run's directory holds files of Weights & Biases.
    """
    blocks = (
        _heading(summary),
        _accuracies(summary),
        beside,
        _figures(summary),
        _devices(summary),
        _further(summary, wandb),
    )
    return "\n\n".join("\n".join(block) for block in map(list, blocks) if block) + "\n"


def _heading(summary: Summary) -> Iterator[str]:
    made = summary.versions[-1].version if summary.versions else 0
    match summary.ending:
        case "finished":
            ended = "finished"
        case "interrupted":
            ended = f"interrupted at version {made} of {summary.versions_wanted}"
        case "failed":
            ended = f"failed at version {made} of {summary.versions_wanted}: {summary.problem}"
    yield f"Flockwise demo, {summary.strategy}: {ended}"
    data = summary.data
    yield (
        f"{count_text(len(summary.devices), 'device')} with {data['train_examples']:,} images"
        f" in all, {data['test_examples']:,} to test on: {data['source']}"
    )
    yield f"model {summary.model}, broker {summary.broker}"


def _accuracies(summary: Summary) -> Iterator[str]:
    tested = [row for row in summary.versions if row.accuracy is not None]
    if not tested:
        yield "No version was tested."
        return
    on = " on generated images" if summary.generated else ""
    yield f"Accuracy by version{on}"
    for start in range(0, len(tested), _COLUMNS):
        yield "  " + "  ".join(_accuracy(row) for row in tested[start : start + _COLUMNS])
    curve = sparkline([row.accuracy for row in tested if row.accuracy is not None], _CURVE)
    final = accuracy_text(summary.accuracy, generated=summary.generated)
    yield f"  {curve}  {final}"


def _accuracy(row: VersionRow) -> str:
    return f"{row.version:>4} {100 * (row.accuracy or 0):5.1f} %"


def _figures(summary: Summary) -> Iterator[str]:
    updates = summary.updates
    made = max(0, len(summary.versions) - 1)
    used = sum(updates.staleness.values())
    yield (
        f"{count_text(made, 'version')} in {seconds_text(summary.seconds)},"
        f" made of {count_text(used, 'update')}"
        f" ({updates.accepted} accepted, {updates.refused} refused)"
    )
    if updates.bytes_each is not None and summary.model_bytes is not None:
        yield (
            f"{bytes_text(updates.bytes_each)} an update up,"
            f" {bytes_text(summary.model_bytes)} a version down;"
            f" {bytes_text(summary.bytes_up)} up and {bytes_text(summary.bytes_down)} down in all"
        )
    if updates.mean_staleness is not None:
        counts = [
            f"{count} missed {missed or 'none'}" for missed, count in updates.staleness.items()
        ]
        yield f"staleness {updates.mean_staleness:.2f} versions on average: {', '.join(counts)}"


def _devices(summary: Summary) -> Iterator[str]:
    titles = ("device", "images", "contributed", "staleness", "trained", "up", "down", "")
    rows = [
        (
            device,
            f"{one.examples:,}",
            str(one.contributions),
            "" if one.mean_staleness is None else f"{one.mean_staleness:.2f}",
            seconds_text(one.train_s),
            bytes_text(one.bytes_up),
            bytes_text(one.bytes_down),
            _remark(one.ended, one.refused),
        )
        for device, one in summary.devices.items()
    ]
    widths = [max(map(len, column)) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        first, *middle, last = zip(row, widths, strict=True)
        cells = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in middle), last[0]]
        yield "  ".join(cells).rstrip()


def _remark(ended: str | None, refused: int) -> str:
    remarks: Iterable[str] = (f"{refused} refused" if refused else "", ended or "")
    return ", ".join(remark for remark in remarks if remark)


def _further(summary: Summary, wandb: bool) -> Iterator[str]:
    here = Path(summary.run_directory)
    yield f"All files of the run: {here}"
    looks = [
        ("summary.json", "this summary"),
        (f"{COORDINATOR}/reports.jsonl", "a row for each version, test, update and refusal"),
        (f"{COORDINATOR}/{COORDINATOR}.log", "what the coordinator did"),
        ("devices/*/agent.log", "what the agents did"),
        (f"{COORDINATOR}/{COORDINATOR}.toml", "the settings, to run it by hand"),
    ]
    if wandb:
        looks.append((f"{COORDINATOR}/wandb", "the run of Weights & Biases"))
    width = max(len(name) for name, _ in looks)
    for name, what in looks:
        yield f"  {name.ljust(width)}  {what}"
