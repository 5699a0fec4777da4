"""How a device is doing: what it shows while it runs, and `flockwise agent status`."""

from __future__ import annotations

import json
from argparse import RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.settings import AgentSettings
from device_agent.core import AgentCore
from device_agent.summary import summary_of
from federation.machine import Level, Log
from federation.session import Session
from federation.status_board import read_status
from federation.status_text import as_lines, stamped

DESCRIPTION = """\
Tell how this device is doing: linked or since when not, the version it holds, training, updates
that wait in the outbox, the last verdict, the last problem, why it does not train if it may not,
and what its updates tell at most of its data (epsilon). Works while the agent runs and while it
does not.
"""
VERDICTS = frozenset({"update accepted", "update refused", "update known"})


class Story:
    """The last words of the log that a technician would look for, each with its time."""

    def __init__(self) -> None:
        self.last: dict[str, str] = {}

    def hear(self, effects: Iterable[object]) -> None:
        """Take the lines among the effects in."""
        for line in effects:
            if not isinstance(line, Log):
                continue
            if line.text in VERDICTS:
                self.last["last_verdict"] = _told(line)
            if line.level in (Level.WARNING, Level.ERROR):
                self.last["last_problem"] = _told(line)
            if line.text in ("link up", "link down"):
                self.last["link"] = _told(line)


def status_of(
    settings: AgentSettings, core: AgentCore, session: Session, story: Story, progress: str
) -> dict[str, Any]:
    """What there is to tell of a running agent, as plain values.

    Args:
        progress: of the training under way.
    """
    work, sent_received = core.work, session.traffic
    link = "linked" if core.linked else "no link"
    held = work.current or work.newest
    version = "no version yet" if held is None else f"version {held.version}"
    doing = core.storage.paused or core.budget.paused or core.fitness.paused or work.phase.value
    account = core.budget.account
    waiting = len(core.delivery)
    return {
        "role": "agent",
        "device": settings.device,
        "summary": f"{link}; {version}; {doing}; {waiting} updates in the outbox",
        "phase": work.phase.value,
        "version": None if held is None else held.version,
        "newest_version": None if work.newest is None else work.newest.version,
        "training": progress if work.phase.value == "training" else "",
        "outbox": f"{waiting} of {settings.outbox_limit}",
        "may_train": core.budget.paused or core.fitness.hindrance or "yes",
        "privacy": "off" if account is None else str(account),
        "privacy_epsilon": None if account is None else account.epsilon,
        "storage": core.storage.paused or "has room",
        "messages_not_believed": dict(session.disbelieved),
        "sent_bytes": sent_received[0],
        "received_bytes": sent_received[1],
        **story.last,
    }


def main(argv: Sequence[str]) -> int:
    """Tell how the agent of a state directory is doing."""
    options = _parser().parse_args(argv)
    found = summary_of(options.state_dir / "outbox")
    if found is None:
        raise Failure(ExitCode.NO_INPUT, f"there is no outbox in {options.state_dir}")
    shown = read_status(options.state_dir) or {"running": False}
    told = {**shown, **found}
    print(json.dumps(told) if options.json else as_lines(told))
    return ExitCode.OK


def _told(line: Log) -> str:
    facts = "".join(f" {key}={value}" for key, value in line.facts.items())
    return stamped(f"{line.text}{facts}")


def _parser() -> UsageParser:
    parser = UsageParser(
        prog="flockwise agent status",
        description=DESCRIPTION,
        formatter_class=RawDescriptionHelpFormatter,
    )
    default = AgentSettings.model_fields["state_dir"].default
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help=f"directory of identity, model and outbox [{default}]",
    )
    parser.add_argument("--json", action="store_true", help="tell in JSON, for machines")
    return parser
