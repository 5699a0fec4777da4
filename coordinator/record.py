"""What the commands share that ask a state directory: their options, and where the ledger is."""

from __future__ import annotations

from argparse import RawDescriptionHelpFormatter
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.settings import CoordinatorSettings

LEDGER = "ledger.sqlite"


def record_parser(prog: str, description: str) -> UsageParser:
    """A parser that knows --state-dir and --json."""
    parser = UsageParser(
        prog=prog, description=description, formatter_class=RawDescriptionHelpFormatter
    )
    default = CoordinatorSettings().state_dir
    parser.add_argument(
        "--state-dir",
        type=Path,
        default=default,
        metavar="DIR",
        help=f"directory of ledger, versions and spool [{default}]",
    )
    parser.add_argument("--json", action="store_true", help="tell in JSON, for machines")
    return parser


def existing_ledger(state_dir: Path) -> Path:
    """The ledger of a state directory; a question makes none.

    Raises:
        Failure: there is none.
    """
    path = state_dir / LEDGER
    if not path.is_file():
        raise Failure(ExitCode.NO_INPUT, f"there is no ledger in {state_dir}")
    return path
