"""How a coordinator is doing: what it shows while it runs, and `flockwise coordinator status`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from config.failures import ExitCode
from coordinator.core import CoordinatorCore
from coordinator.inspection import inspect
from coordinator.record import record_parser
from federation.session import Session
from federation.status_board import read_status
from federation.status_text import as_lines

DESCRIPTION = """\
Tell how a coordinator is doing: linked or not, the current version, devices, updates, the last
refusal and the last error. Works while it runs and while it does not.
"""


def status_of(core: CoordinatorCore, session: Session) -> dict[str, Any]:
    """What there is to tell of a running coordinator, as plain values."""
    progression = core.progression
    sent, received = session.traffic
    online = len(core.roster.online)
    link = "linked" if core.linked else "no link"
    version = progression.current.version
    return {
        "role": "coordinator",
        "summary": f"{link}; version {version}; {online} devices online",
        "link": link,
        "version": version,
        "announced": progression.announced,
        "devices_online": sorted(core.roster.online),
        "devices_paused": dict(core.roster.paused),
        "devices_private": dict(core.roster.private),
        "devices_quarantined": {
            device: progression.standing.why(device)
            for device in sorted(progression.standing.quarantined)
        },
        "devices_strange": progression.standing.strangest(10),
        "updates_waiting": len(progression.buffer),
        "uploads_under_way": len(core.uploads),
        "storage": "full" if core.storage.blocked else "has room",
        "sent_bytes": sent,
        "received_bytes": received,
        "ignored_messages": dict(core.counts),
        "messages_not_believed": dict(session.disbelieved),
    }


def main(argv: Sequence[str]) -> int:
    """Tell how the coordinator of a state directory is doing."""
    options = record_parser("flockwise coordinator status", DESCRIPTION).parse_args(argv)
    record = inspect(options.state_dir, 1)
    shown = read_status(options.state_dir) or {"running": False}
    told = {
        **shown,
        # From the file: the one who runs may not have looked since it was changed by hand.
        "devices_quarantined": {row["device"]: row["reason"] for row in record["quarantine"]},
        "newest_version": record["versions"][0] if record["versions"] else None,
        "devices": len(record["devices"]),
        "accepted": sum(row["accepted"] for row in record["devices"]),
        "refused": sum(row["refused"] for row in record["devices"]),
        "refusals": record["refusals"][:5],
    }
    print(json.dumps(told) if options.json else as_lines(told))
    return ExitCode.OK
