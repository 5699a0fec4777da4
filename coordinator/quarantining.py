"""`flockwise coordinator quarantine` and `release`: who may contribute, decided by a person."""

from __future__ import annotations

import json
import sqlite3
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from config.failures import ExitCode, Failure
from config.values import Identifier
from coordinator.quarantine import FILE, enter, read_entries
from coordinator.record import existing_ledger, record_parser
from coordinator.vocabulary import Entry
from federation.snapshot import open_snapshot

QUARANTINE = """\
Put a device into quarantine: its offers are refused, and what it has delivered enters no version
from now on. Works while the coordinator runs, which notices at once, and while it does not. What is
in versions already is in them: the command says how to take it back.

example:
  flockwise coordinator quarantine camera-7 --reason "was stolen"
"""
RELEASE = """\
Let a device out of quarantine: its offers are welcome again, and it begins without a past. What was
refused or left out meanwhile stays so. Works while the coordinator runs and while it does not.

example:
  flockwise coordinator release camera-7
"""
_PAST = """
SELECT count(version), min(version), max(version), (SELECT max(version) FROM versions)
FROM updates LEFT JOIN contributions USING (entry) WHERE device = ?
"""
_KNOWN = "SELECT 1 FROM updates WHERE device = ? LIMIT 1"


def quarantine(argv: Sequence[str]) -> int:
    """Put a device into quarantine, and tell what it has contributed."""
    options = _options("quarantine", QUARANTINE, argv, "put there by hand")
    past = _past(options.state_dir, options.device)
    _enter(options, Entry(True, "hand", options.reason[:200], past["newest_version"]))
    lines = [f"{options.device} is in quarantine; a coordinator that runs knows it in a moment"]
    if not past["known"]:
        lines.append(f"the ledger knows no device {options.device}: is the name right?")
    if past["contributions"]:
        where = f"versions {past['first_version']} to {past['last_version']}"
        lines += [
            f"{past['contributions']} of its updates are in {where}; to take back what they did, "
            "stop the coordinator and run",
            f"  {past['take_back']}",
        ]
    _tell(options, {"quarantined": True, **past}, lines)
    return ExitCode.OK


def release(argv: Sequence[str]) -> int:
    """Let a device out of quarantine."""
    options = _options("release", RELEASE, argv, "let out by hand")
    past = _past(options.state_dir, options.device)
    entry = read_entries(options.state_dir).get(options.device)
    if entry is None or not entry.quarantined:
        raise Failure(ExitCode.USAGE, f"{options.device} is not in quarantine")
    _enter(options, Entry(False, "hand", options.reason[:200], past["newest_version"]))
    line = f"{options.device} is let out of quarantine; it was there: {entry.reason}"
    _tell(options, {"quarantined": False}, [line])
    return ExitCode.OK


def _options(verb: str, description: str, argv: Sequence[str], reason: str) -> Namespace:
    parser = record_parser(f"flockwise coordinator {verb}", description)
    parser.add_argument("device", metavar="DEVICE", help="id of the device")
    parser.add_argument("--reason", default=reason, metavar="TEXT", help="why, for the record")
    options = parser.parse_args(argv)
    try:
        TypeAdapter(Identifier).validate_python(options.device)
    except ValidationError:
        raise Failure(
            ExitCode.USAGE, f"{options.device!r} is no device: 1 to 40 characters of a-z, 0-9 and -"
        ) from None
    return options


def _past(state_dir: Path, device: str) -> dict[str, Any]:
    """What the ledger knows of a device."""
    path = existing_ledger(state_dir)
    try:
        with open_snapshot(path) as ledger:
            known = ledger.execute(_KNOWN, (device,)).fetchone() is not None
            count, first, last, newest = ledger.execute(_PAST, (device,)).fetchone()
    except (OSError, sqlite3.Error) as error:
        raise Failure(ExitCode.NO_INPUT, f"ledger {path}: {error}") from None
    take_back = (
        f"flockwise coordinator replay --state-dir {state_dir} --without {device} --adopt"
        if count
        else None
    )
    return {
        "known": known,
        "contributions": count,
        "first_version": first,
        "last_version": last,
        "newest_version": newest or 0,
        "take_back": take_back,
    }


def _enter(options: Namespace, entry: Entry) -> None:
    try:
        enter(options.state_dir, options.device, entry)
    except OSError as error:
        path = options.state_dir / FILE
        raise Failure(
            ExitCode.CANNOT_WRITE, f"{path} cannot be written: {error.strerror or error}"
        ) from None


def _tell(options: Namespace, told: dict[str, Any], lines: list[str]) -> None:
    print(json.dumps({"device": options.device, **told}) if options.json else "\n".join(lines))
