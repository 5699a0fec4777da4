"""`flockwise agent join`: this device becomes a member of a federation."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.sections import FederationName
from federation.bundle import LONGEST_BYTES, Bundle, BundleError, read_bundle
from federation.enrolment_token import TokenError, looks_like_a_token, read_token
from federation.joining import join
from federation.membership import FOLDER, read_membership
from federation.membership_files import write_membership

PROG = "flockwise agent join"
_EPILOG = """\
BUNDLE is the file that `flockwise broker enroll DEVICE` made on the gateway; delete it when this
has joined. TOKEN is the line of `flockwise broker enroll DEVICE --token`: the keys are made here
then, and only their public parts are sent. Joining again replaces what was there.
"""


def main(argv: Sequence[str]) -> int:
    """Join by a bundle or a token, and say what comes next."""
    parser = UsageParser(
        prog=PROG,
        description="Become a member of a federation, by a file or a one-time token.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "what", metavar="BUNDLE|TOKEN", help="- reads a token from standard input, unseen by others"
    )
    parser.add_argument(
        "--state-dir",
        metavar="DIR",
        type=Path,
        default=Path("agent-state"),
        help="state directory of the agent; its keys go to membership/ in it [agent-state]",
    )
    given = parser.parse_args(argv)
    directory = given.state_dir / FOLDER
    what = sys.stdin.readline().strip() if given.what == "-" else given.what
    if given.what == "-":
        what = (what.split() or [""])[-1]  # the whole line that was printed will do
    former = _former(directory)
    bundle = _joined(what)
    member = bundle.member
    if not member.device:
        raise Failure(ExitCode.CONFIG, f"join: {what} is the coordinator's, not a device's")
    if former is not None and former != (member.federation, member.device):
        raise Failure(
            ExitCode.CONFIG,
            f"join: {directory} is of {former[1]} in {former[0].prefix}/{former[0].name} already;"
            f" choose another --state-dir for {member.device}, or remove it first",
        )
    write_membership(directory, bundle.files)
    name = f"{member.federation.prefix}/{member.federation.name}"
    print(
        f"agent: {member.device} is a member of {name}, by the broker at"
        f" {member.host}:{member.port}; its keys are in {directory}"
    )
    if not looks_like_a_token(what):
        print(f"delete {what}: who has it can be {member.device}")
    print(
        f"next: flockwise agent run --device {member.device} --chunk FILE"
        f" --state-dir {given.state_dir}"
    )
    return ExitCode.OK


def _former(directory: Path) -> tuple[FederationName, str] | None:
    """Who is a member by this directory already."""
    try:
        member = read_membership(directory).member
    except Failure:
        return None  # there is none, or it is of no use
    return member.federation, member.device


def _joined(what: str) -> Bundle:
    try:
        if looks_like_a_token(what):
            return join(read_token(what))
        with Path(what).open("rb") as file:
            return read_bundle(file.read(LONGEST_BYTES + 1))
    except TokenError as error:
        raise Failure(ExitCode.CONFIG, f"join: {error}") from None
    except BundleError as error:
        raise Failure(ExitCode.CONFIG, f"join: {what} is no bundle: {error}") from None
    except OSError as error:
        # It may be a token with a word missing, and a token is a secret.
        shown = what if "/" in what or len(what) <= 40 else f"{what[:12]}..."
        why = f"join: {shown} cannot be read: {error.strerror}"
        raise Failure(ExitCode.NO_INPUT, why) from None
