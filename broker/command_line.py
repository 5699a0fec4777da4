"""What the command lines of the authority's commands have in common."""

from __future__ import annotations

import argparse
import datetime as dt
import re
from pathlib import Path

from broker.authority import Authority
from broker.upkeep import await_taken_up
from config.failures import ExitCode, Failure
from config.options import UsageParser
from federation.topics import ID_PATTERN

TAKEN_UP_S = 10.0


def parser_of(word: str, description: str, epilog: str) -> UsageParser:
    """A parser that knows where the authority is."""
    parser = UsageParser(
        prog=f"flockwise broker {word}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--authority", metavar="DIR", type=Path, default=Path("authority"), help="[authority]"
    )
    return parser


def device_name(text: str) -> str:
    """A name that a device can have."""
    if not re.fullmatch(ID_PATTERN, text):
        raise argparse.ArgumentTypeError(f"{text!r} is not 1 to 40 characters of a-z, 0-9 and -")
    return text


def positive(text: str) -> float:
    """A number above 0."""
    number = float(text) if re.fullmatch(r"\d{1,5}(\.\d+)?", text) else 0.0
    if number <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return number


def port_number(text: str) -> int:
    """A port."""
    if not re.fullmatch(r"\d{1,5}", text) or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 1 to 65535")
    return int(text)


def now() -> dt.datetime:
    """Now, with its time zone."""
    return dt.datetime.now(dt.UTC)


def tell_taken_up(authority: Authority) -> None:
    """Say whether a running broker has taken up what was changed; raises Failure if it has not."""
    if not authority.is_ours:
        return
    taken = await_taken_up(authority, TAKEN_UP_S)
    if taken.in_effect:
        print("the running broker has taken it up")
    elif taken.runs:
        raise Failure(
            ExitCode.FAILURE,
            f"broker: the running broker has not taken it up in {TAKEN_UP_S:g} s; see its log",
        )
    else:
        print(
            "no broker runs from this authority; one that is run elsewhere needs"
            " `flockwise broker render` and SIGHUP"
        )
