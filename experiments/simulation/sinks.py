"""Where the rows of a simulation go: a file, and what draws curves of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from config.simulation import SimulationSettings
from experiments.simulation.run import OnRow

REPORTS = "reports.jsonl"


@contextmanager
def telling(settings: SimulationSettings, directory: Path | None) -> Iterator[OnRow]:
    """Tell the rows to all who are to hear them."""
    if directory is None:
        yield lambda row: None
        return
    with (directory / REPORTS).open("w", encoding="utf-8", buffering=1) as file:

        def tell(row: dict[str, Any]) -> None:
            file.write(json.dumps(row) + "\n")

        yield tell
