"""What came of a run, as a value: made of the scoreboard and of the coordinator's reports. Pure.

As JSON (`as_json`; `flockwise demo --summary FILE`) it is one object:

    kind             "demo"
    schema           1
    ending           "finished", "interrupted" or "failed"
    problem          what it failed of, or null
    strategy, model  names
    data             {source, generated, train_examples, test_examples}; accuracies on generated
                     images tell nothing about real ones
    broker           the program that served
    accuracy         share of right answers of the newest version that was tested, 0 to 1, or null
    seconds          from the start of the processes to the newest version
    versions_wanted  how many versions were to be made
    versions         [{version, made_s, tested_s, accuracy, loss, devices, staleness}] in order;
                     seconds since the start of the processes; `devices` are those whose updates
                     went into it, `staleness` the versions that each of these had missed
    devices          {id: {examples, contributions, accepted, refused, bytes_up, bytes_down,
                     train_s, mean_staleness, held_out_accuracy, ended}}: `contributions` are
                     updates in a version, `accepted` those in the ledger, `train_s` is the sum over
                     these, `held_out_accuracy` that of the model last received on the device's own
                     held-out images, `ended` how its agent ended before the run did, or null
    updates          {accepted, refused, bytes_each, mean_staleness, staleness: {missed: count}}
    model_bytes      size of a version as devices fetch it
    bytes_up         payload bytes that all devices sent (as counted by their processes)
    bytes_down       payload bytes that they received
    run_directory    where all files of the run are
    settings         {seed, dirichlet, straggler, training: {...}, aggregation: {...}} as they
                     took effect
    baseline         the result of a central training to compare with, as its file tells it, or null
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, TypeAlias

from coordinator.reporting import rows_in
from experiments.scoreboard import Scoreboard, VersionRow

SCHEMA = 1
Ending: TypeAlias = Literal["finished", "interrupted", "failed"]


@dataclass(frozen=True, slots=True)
class DeviceSummary:
    """One device; the fields are those of the JSON."""

    examples: int
    contributions: int
    accepted: int
    refused: int
    bytes_up: int
    bytes_down: int
    train_s: float
    mean_staleness: float | None
    held_out_accuracy: float | None
    ended: str | None


@dataclass(frozen=True, slots=True)
class UpdatesSummary:
    """All updates together; the fields are those of the JSON."""

    accepted: int
    refused: int
    bytes_each: int | None
    mean_staleness: float | None
    staleness: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a run; the fields are those of the JSON."""

    ending: Ending
    problem: str | None
    strategy: str
    model: str
    data: Mapping[str, Any]
    broker: str
    accuracy: float | None
    seconds: float
    versions_wanted: int
    versions: tuple[VersionRow, ...]
    devices: Mapping[str, DeviceSummary]
    updates: UpdatesSummary
    model_bytes: int | None
    bytes_up: int
    bytes_down: int
    run_directory: str
    settings: Mapping[str, Any]
    baseline: Mapping[str, Any] | None = None

    @property
    def generated(self) -> bool:
        """Whether all its accuracies are on made-up images."""
        return bool(self.data["generated"])


def summarize(
    board: Scoreboard,
    reports: Iterable[Mapping[str, Any]],
    *,
    ending: Ending,
    problem: str | None,
    settings: Mapping[str, Any],
) -> Summary:
    """Sum a run up.

    Args:
        board: the last scoreboard.
        reports: rows of the coordinator's `reports.jsonl`.
        ending, problem: how the run ended.
        settings: training and aggregation, as they took effect.
    """
    run = board.run
    rows = list(reports)
    accepted = [row for row in rows if row.get("kind") == "update"]
    refused = [row for row in rows if row.get("kind") == "refusal"]
    missed = [missed for version in board.versions for missed in version.staleness]
    tested = board.tested
    return Summary(
        ending=ending,
        problem=problem,
        strategy=run.strategy,
        model=run.model,
        data={
            "source": run.source,
            "generated": run.generated,
            "train_examples": sum(run.examples.values()),
            "test_examples": run.test_examples,
        },
        broker=run.broker,
        accuracy=tested[-1].accuracy if tested else None,
        seconds=round(board.versions[-1].made_s, 3) if board.versions else 0.0,
        versions_wanted=run.versions,
        versions=board.versions,
        devices={
            device: _device(board, device, accepted, refused, board.versions)
            for device in board.devices
        },
        updates=UpdatesSummary(
            accepted=len(accepted),
            refused=len(refused),
            bytes_each=_whole_mean([int(row["bytes"]) for row in accepted]),
            mean_staleness=_mean(missed),
            staleness=dict(sorted(Counter(missed).items())),
        ),
        model_bytes=board.model_bytes,
        bytes_up=sum(row.sent_bytes for row in board.devices.values()),
        bytes_down=sum(row.received_bytes for row in board.devices.values()),
        run_directory=str(run.directory),
        settings=settings,
    )


def as_json(summary: Summary) -> str:
    """The summary as JSON text, as the docstring of this module tells it."""
    told = {"kind": "demo", "schema": SCHEMA, **asdict(summary)}
    return json.dumps(told, indent=2, allow_nan=False) + "\n"


def read_reports(path: Path) -> list[dict[str, Any]]:
    """The rows of a `reports.jsonl`; a last one that was torn by a crash is left out."""
    return list(rows_in(path))


def _device(
    board: Scoreboard,
    device: str,
    accepted: Sequence[Mapping[str, Any]],
    refused: Sequence[Mapping[str, Any]],
    versions: Sequence[VersionRow],
) -> DeviceSummary:
    row = board.devices[device]
    mine = [report for report in accepted if report.get("device") == device]
    missed = [
        missed
        for version in versions
        for who, missed in zip(version.devices, version.staleness, strict=True)
        if who == device
    ]
    return DeviceSummary(
        examples=board.run.examples[device],
        contributions=len(missed),
        accepted=len(mine),
        refused=sum(report.get("device") == device for report in refused),
        bytes_up=row.sent_bytes,
        bytes_down=row.received_bytes,
        train_s=round(sum(float(report["train_s"]) for report in mine), 3),
        mean_staleness=_mean(missed),
        held_out_accuracy=row.held_out_accuracy,
        ended=row.ended,
    )


def _mean(values: Sequence[float]) -> float | None:
    return round(fmean(values), 3) if values else None


def _whole_mean(values: Sequence[int]) -> int | None:
    return round(fmean(values)) if values else None
