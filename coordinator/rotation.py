"""`flockwise coordinator rotate-key`: a new key to which devices seal their updates."""

from __future__ import annotations

import json
from collections.abc import Sequence

from config.failures import ExitCode, Failure
from coordinator.keyring import SEALING, add_key
from coordinator.record import record_parser

DESCRIPTION = """\
Make a new key to which devices seal their updates. A running coordinator tells it with its next
version; no device has to be touched, and what was sealed to the older keys still opens.
"""


def main(argv: Sequence[str]) -> int:
    """Add a key to the keyring of a coordinator, running or not."""
    options = record_parser("flockwise coordinator rotate-key", DESCRIPTION).parse_args(argv)
    folder = options.state_dir / SEALING
    if not folder.is_dir():
        raise Failure(
            ExitCode.NO_INPUT,
            f"there are no sealing keys in {options.state_dir}: a coordinator with a membership"
            " makes the first one at its first start",
        )
    try:
        name = add_key(folder).hex()
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"{folder}: {error.strerror}") from None
    told = f"new sealing key {name}: it counts from the next version on"
    print(json.dumps({"key": name}) if options.json else told)
    return ExitCode.OK
