"""`flockwise coordinator inspect`: what the ledger and the spool say, while it runs or not.

It reads a copy of the ledger and leaves nothing behind, so it may be asked at any time.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import msgpack

from config.failures import ExitCode, Failure
from config.options import UsageParser
from coordinator.quarantine import read_entries
from coordinator.record import existing_ledger, record_parser
from coordinator.schema import bring_up_to_date
from federation.snapshot import open_snapshot

DESCRIPTION = """\
Show versions, what each device contributed, what was refused and why, and uploads under way. Works
while the coordinator runs and while it does not.
"""
_BLOCK = 512


def main(argv: Sequence[str]) -> int:
    """Show what is on record."""
    options = _parser().parse_args(argv)
    found = inspect(options.state_dir, options.versions)
    print(json.dumps(found) if options.json else as_text(found))
    return ExitCode.OK


def inspect(state_dir: Path, newest: int) -> dict[str, Any]:
    """The record as plain values: `versions`, `devices`, `privacy`, `refusals`, `waiting`,
    `uploads`.

    Args:
        newest: how many versions to tell of, from the newest.

    Raises:
        Failure: there is no ledger, or it cannot be read.
    """
    path = existing_ledger(state_dir)
    try:
        with open_snapshot(path) as ledger:
            bring_up_to_date(ledger)  # it is a copy, and the coordinator may not have run since
            ledger.row_factory = sqlite3.Row
            return {
                "versions": _versions(ledger, newest),
                "devices": _rows(ledger, _DEVICES),
                "privacy": _privacy(ledger),
                "refusals": _rows(ledger, _REFUSALS),
                "quarantine": _quarantine(state_dir),
                "waiting": _rows(ledger, _WAITING),
                "uploads": _uploads(ledger, state_dir / "spool"),
            }
    except (OSError, sqlite3.Error) as error:
        raise Failure(ExitCode.NO_INPUT, f"ledger {path}: {error}") from None


def as_text(found: dict[str, Any]) -> str:
    """The record for people."""
    blocks = [
        _table("versions", found["versions"], ("version", "made", "updates", "metrics", "note")),
        _table(
            "devices",
            found["devices"],
            (
                *("device", "accepted", "applied", "refused", "examples", "bytes", "staleness"),
                *("clipped", "left_out"),
            ),
        ),
        _table(_PRIVACY_TITLE, found["privacy"], ("device", *_PRIVACY)),
        _table("refusals", found["refusals"], ("device", "reason", "times", "detail")),
        _table("in quarantine", found["quarantine"], ("device", "by", "reason", "version")),
        _table("accepted, waiting for a version", found["waiting"], ("device", "base_version")),
        _table("uploads under way", found["uploads"], ("file", "arrived_bytes", "bytes")),
    ]
    return "\n\n".join(blocks)


_VERSIONS = """
SELECT version, made_at, note, metrics,
       (SELECT count(*) FROM contributions c WHERE c.version = v.version) AS updates
FROM versions v ORDER BY version DESC LIMIT ?
"""
_DEVICES = """
SELECT device, sum(refusal IS NULL) AS accepted, count(version) AS applied,
       (SELECT coalesce(sum(times), 0) FROM refusals WHERE device = u.device) AS refused,
       sum(CASE WHEN refusal IS NULL THEN examples ELSE 0 END) AS examples,
       sum(bytes) AS bytes, round(avg(staleness), 2) AS staleness,
       count(CASE WHEN clip < 1 THEN 1 END) AS clipped, coalesce(sum(outlier), 0) AS left_out
FROM updates u LEFT JOIN contributions USING (entry) GROUP BY device ORDER BY device
"""
# What a device tells of its account with each update (`learning.accountant`): its newest word, for
# each outbox that it ever had. One that was wiped counts anew, and the row of before stays.
_PRIVACY_TITLE = "privacy, as devices tell (unit: the whole chunk of a device; adjacency: zero-out)"
_PRIVACY = (
    "epsilon",
    "epsilon_at_most",
    "delta",
    "clip",
    "noise",
    "participations",
    "max_participations",
    "unprotected",
)
_NEWEST = """
SELECT device, outbox, metrics FROM updates
WHERE entry IN (SELECT max(entry) FROM updates GROUP BY device, outbox) ORDER BY device, entry
"""
_REFUSALS = """
SELECT device, reason, times, detail FROM refusals ORDER BY times DESC
"""
_WAITING = """
SELECT device, sequence, base_version FROM updates
WHERE refusal IS NULL AND NOT aside AND entry NOT IN (SELECT entry FROM contributions)
ORDER BY entry
"""


def _versions(ledger: sqlite3.Connection, newest: int) -> list[dict[str, Any]]:
    rows = []
    for row in ledger.execute(_VERSIONS, (newest,)):
        metrics = msgpack.unpackb(row["metrics"]) if row["metrics"] else {}
        made = datetime.fromtimestamp(row["made_at"]).isoformat(sep=" ", timespec="seconds")
        rows.append({**dict(row), "metrics": metrics, "made": made})
    return rows


def _privacy(ledger: sqlite3.Connection) -> list[dict[str, Any]]:
    rows = []
    for device, outbox, metrics in ledger.execute(_NEWEST):
        told = msgpack.unpackb(metrics)
        if "privacy_epsilon" in told:
            figures = {name: _whole(told.get(f"privacy_{name}")) for name in _PRIVACY}
            rows.append({"device": device, "outbox": outbox.hex(), **figures})
    return rows


def _whole(value: float | None) -> float | int | None:
    """A figure, and a count as a count: metrics travel as floats."""
    return int(value) if value is not None and value.is_integer() else value


def _uploads(ledger: sqlite3.Connection, spool: Path) -> list[dict[str, Any]]:
    """Files that no entry of the ledger is about: still on their way, or given up half way."""
    known = {
        f"{device}.{outbox.hex()}.{sequence}"
        for device, outbox, sequence in ledger.execute(
            "SELECT device, outbox, sequence FROM updates"
        )
    }
    rows = []
    for path in sorted(spool.iterdir()) if spool.is_dir() else ():
        if path.name.count(".") == 2 and path.name not in known:
            try:
                stat = path.stat()
            except FileNotFoundError:  # refused, or swept away, since the folder was listed
                continue
            # A file is made in its full size; what has arrived takes room on disk.
            arrived = min(stat.st_size, stat.st_blocks * _BLOCK)
            rows.append({"file": path.name, "arrived_bytes": arrived, "bytes": stat.st_size})
    return rows


def _quarantine(state_dir: Path) -> list[dict[str, Any]]:
    entries = read_entries(state_dir).items()
    return [{"device": device, **asdict(entry)} for device, entry in entries if entry.quarantined]


def _rows(ledger: sqlite3.Connection, query: str) -> list[dict[str, Any]]:
    return [dict(row) for row in ledger.execute(query)]


def _table(title: str, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> str:
    if not rows:
        return f"{title}: none"
    cells = [list(columns), *([_cell(row[column]) for column in columns] for row in rows)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(columns))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in cells
    )
    return f"{title}\n  " + "\n  ".join(lines)


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return " ".join(f"{name}={number:.4g}" for name, number in value.items())
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, int):
        return f"{value:,}"
    # Some of it is what devices say: nothing of that moves a cursor or forges a line.
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))


def _parser() -> UsageParser:
    parser = record_parser("flockwise coordinator inspect", DESCRIPTION)
    parser.add_argument(
        "--versions", type=int, default=10, metavar="N", help="newest versions to show [10]"
    )
    return parser
