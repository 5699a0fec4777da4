"""What an outbox holds, in figures, read beside the agent that has it open."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from config.failures import ExitCode, Failure
from device_agent.past import read_past
from federation.snapshot import open_snapshot


def summary_of(folder: Path) -> dict[str, int] | None:
    """What an outbox holds, read beside the agent that has it open; None if there is none.

    Raises:
        Failure: the file cannot be read.
    """
    path = folder / "outbox.sqlite"
    if not path.is_file():
        return None
    try:
        with open_snapshot(path) as db:
            ((waiting,),) = db.execute("SELECT count(*) FROM updates")
            boots, made, trained = db.execute(
                "SELECT boots, next_sequence, trained_version FROM identity"
            ).fetchone()
            noised = read_past(db).noised
    except (OSError, sqlite3.Error) as error:
        raise Failure(ExitCode.NO_INPUT, f"outbox {path}: {error}") from None
    return {
        "updates_in_outbox": waiting,
        "updates_made": made,
        "updates_with_noise": noised,
        "last_trained_version": trained,
        "starts": boots,
    }
