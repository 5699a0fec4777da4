"""Runs of W&B on disk, read back with W&B's own reader: `wandb leet inspect`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HOUSE = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Run:
    """One start of a run: a folder, and its records by their type, in order."""

    folder: Path
    records: dict[str, list[Any]]

    @property
    def described(self) -> dict[str, Any]:
        """Its names, its configuration, and whether it goes on with another one."""
        (run,) = self.records["run"]
        found: dict[str, Any] = run
        return found

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged, a step each."""
        return [record["item"] for record in self.records.get("history", [])]

    def logged(self, name: str) -> list[Any]:
        """The values of a curve, in order."""
        return [item[name] for item in self.history if name in item]

    @property
    def axes(self) -> dict[str, Any]:
        """What was said of curves, by their name or pattern."""
        metrics = self.records.get("metric", [])
        return {record.get("name") or record["glob_name"]: record for record in metrics}

    def artifacts(self, kind: str) -> list[dict[str, Any]]:
        """The artifacts of this type, with their metadata in the clear."""
        return [
            {**record, "metadata": json.loads(record.get("metadata") or "{}")}
            for record in self.records.get("artifact", [])
            if record["type"] == kind
        ]

    def stored(self, name: str) -> dict[str, Path]:
        """The files of the last artifact of this name, where they wait for their upload."""
        artifact = [record for record in self.records["artifact"] if record["name"] == name][-1]
        contents = artifact["manifest"]["contents"]
        return {entry["path"]: Path(entry["local_path"]) for entry in contents}

    def table(self, name: str) -> dict[str, Any]:
        """The table that was logged last under this name."""
        path = self.folder / "files" / self.logged(f"{name}.path")[-1]
        found: dict[str, Any] = json.loads(path.read_text())
        return found


def runs_in(directory: Path) -> list[Run]:
    """The starts of all runs whose files lie in the folder `wandb` of a directory, oldest first."""
    files = sorted((directory / "wandb").glob("*run-*/*.wandb"))
    return [Run(path.parent, _records(path)) for path in files]


def environment(home: Path, **more: str) -> dict[str, str]:
    """That of somebody who is not logged in to W&B."""
    names = ("WANDB_", "NETRC", "FLOCKWISE_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return clean | {"HOME": str(home), "TERM": "xterm", "WANDB_ERROR_REPORTING": "false"} | more


def _records(path: Path) -> dict[str, list[Any]]:
    words = ("-m", "wandb", "leet", "inspect", "--json", str(path))
    done = subprocess.run(
        [sys.executable, *words],
        env=environment(path.parent.parent),
        cwd=HOUSE,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "No such command" in done.stderr:
        pytest.skip("this wandb has no reader of runs on disk")
    assert done.returncode == 0, done.stderr
    records: dict[str, list[Any]] = {}
    for line in done.stdout.splitlines():
        record = json.loads(line)
        records.setdefault(record["type"], []).append(record.get(record["type"]))
    return records
