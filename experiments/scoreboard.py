"""What is known of a federation on this machine, from nothing but its processes' log lines.

A scoreboard is a value: `experiments.following` makes the next one from an event. Display and
summary read from it and add no knowledge of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeAlias

COORDINATOR = "coordinator"
LEVELS = ("debug", "info", "warning", "error", "critical")


class Phase(StrEnum):
    """What a device is at, as its row says."""

    STARTING = "starting"
    WAITING = "waiting"
    FETCHING = "fetching"
    LOADING = "loading"
    TESTING = "testing"
    TRAINING = "training"
    DELIVERING = "delivering"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Line:
    """One log line of a process: `source` is a device's id or "coordinator", time since 1970."""

    source: str
    time_s: float
    level: str
    text: str
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ended:
    """A process is gone: its exit status, the same in words, and what it logged last."""

    source: str
    time_s: float
    status: int
    how: str
    last_lines: tuple[str, ...] = ()


Event: TypeAlias = Line | Ended


@dataclass(frozen=True, slots=True)
class DeviceRow:
    """One device: `version` is what it works on, `done` the share of its phase, 0 to 1.

    Attributes:
        newest: the newest version that it has heard of.
        accepted: its updates that the coordinator has entered into the ledger.
        waiting_updates: those in its outbox.
        sent_bytes, received_bytes: payloads of its messages, as its process counts them.
        ended: how its process ended, if it did.
    """

    phase: Phase = Phase.STARTING
    version: int | None = None
    newest: int | None = None
    done: float = 0.0
    loss: float | None = None
    held_out_accuracy: float | None = None
    linked: bool = False
    accepted: int = 0
    refused: int = 0
    waiting_updates: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    ended: str | None = None


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version: when it was made and tested (seconds since the start), and of what."""

    version: int
    made_s: float
    devices: tuple[str, ...] = ()
    staleness: tuple[int, ...] = ()
    tested_s: float | None = None
    accuracy: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that people should read."""

    source: str
    level: str
    text: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Run:
    """What is settled before anything happens.

    Attributes:
        started_s: when the processes were started, since 1970.
        examples: training images of each device, by its id and in the order of the rows.
        source: where the images come from; `generated` images are made up.
        versions: how many are to be made.
        least_level: the least level of a log line that becomes a notice.
    """

    started_s: float
    strategy: str
    model: str
    examples: Mapping[str, int]
    test_examples: int
    source: str
    generated: bool
    versions: int
    broker: str
    directory: Path
    least_level: str = "warning"


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """The state that is shown; the bytes are the coordinator's, as its process counts them.

    Attributes:
        notices: the latest ones; `noticed` counts all that there were.
    """

    run: Run
    devices: Mapping[str, DeviceRow]
    versions: tuple[VersionRow, ...] = ()
    model_bytes: int | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    notices: tuple[Notice, ...] = ()
    noticed: int = 0

    @property
    def newest(self) -> VersionRow | None:
        """The current version, if there is one yet."""
        return self.versions[-1] if self.versions else None

    @property
    def tested(self) -> tuple[VersionRow, ...]:
        """The versions whose accuracy is known, in order."""
        return tuple(row for row in self.versions if row.accuracy is not None)


def opening(run: Run) -> Scoreboard:
    """The scoreboard before anything has happened."""
    return Scoreboard(run, {device: DeviceRow() for device in run.examples})
