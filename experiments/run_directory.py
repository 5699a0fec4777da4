"""Where everything of a run lies: one directory, readable long after the run."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from config.failures import ExitCode, Failure
from experiments.partitioning import TEST_SET
from experiments.scoreboard import COORDINATOR

RUNS = Path("runs")


@dataclass(frozen=True, slots=True)
class RunDirectory:
    """The names in the directory of a run; `path` is absolute."""

    path: Path

    @property
    def chunks(self) -> Path:
        """Where the data of the devices lie, and the test set."""
        return self.path / "chunks"

    @property
    def test_set(self) -> Path:
        """The chunk that each version is tested on."""
        return self.chunks / TEST_SET

    @property
    def authority(self) -> Path:
        """Who says who is a member."""
        return self.path / "authority"

    @property
    def broker(self) -> Path:
        """Files and log of the broker."""
        return self.path / "broker"

    @property
    def membership(self) -> Path:
        """The coordinator's keys."""
        return self.authority / "coordinator"

    @property
    def coordinator(self) -> Path:
        """State, reports and log of the coordinator."""
        return self.path / COORDINATOR

    @property
    def reports(self) -> Path:
        """What the coordinator reports: versions, evaluations, updates, refusals."""
        return self.coordinator / "reports.jsonl"

    @property
    def summary(self) -> Path:
        """The summary of the run."""
        return self.path / "summary.json"

    @property
    def settings(self) -> Path:
        """The settings that the demo was started with."""
        return self.path / "demo.toml"

    def chunk(self, device: str) -> Path:
        """The data of a device."""
        return self.chunks / f"{device}.npz"

    def device(self, device: str) -> Path:
        """State and log of an agent."""
        return self.path / "devices" / device

    def log(self, source: str) -> Path:
        """The log of the coordinator or of a device's agent."""
        return self.home(source) / f"{_role(source)}.log"

    def settings_of(self, source: str) -> Path:
        """The settings file of the coordinator or of a device's agent."""
        return self.home(source) / f"{_role(source)}.toml"

    def home(self, source: str) -> Path:
        """The directory of the coordinator or of a device's agent."""
        return self.coordinator if source == COORDINATOR else self.device(source)


def make_run_directory(wanted: Path | None, now: datetime) -> RunDirectory:
    """Make a directory for a new run: the one that is wanted, or one named after the time.

    Raises:
        Failure: it holds something already, or cannot be made.
    """
    path = wanted if wanted is not None else _unused(RUNS / f"demo-{now:%Y%m%d-%H%M%S}")
    try:
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise Failure(
                ExitCode.CONFIG, f"run_dir {path} holds something already; give a new directory"
            )
        return RunDirectory(path.resolve())
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"cannot make the directory {path}: {error.strerror}"
        ) from None


def _role(source: str) -> str:
    return "coordinator" if source == COORDINATOR else "agent"


def _unused(path: Path) -> Path:
    candidates = (path, *(path.with_name(f"{path.name}-{n}") for n in range(2, 100)))
    return next((candidate for candidate in candidates if not candidate.exists()), path)
