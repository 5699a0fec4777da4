"""How Flockwise says that it cannot go on.

A `Failure` is one that can be expected in the field: no broker, no space, a wrong setting. It
carries one line (what, where, what to do) and the exit code of the process, which service managers
and scripts can tell apart. Anything else that is raised is a defect, and keeps its traceback.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of the `flockwise` command (where they exist, those of sysexits.h)."""

    OK = 0
    FAILURE = 1
    USAGE = 64  # the command line does not parse
    NO_INPUT = 66  # no chunk, no images
    UNAVAILABLE = 69  # the broker could not be reached, and the time to try is over
    CANNOT_WRITE = 73
    PORT_TAKEN = 74
    CONFIG = 78  # a setting is missing, unknown or out of bounds
    DUPLICATE = 79  # another agent or coordinator has this identity
    LOCKED = 80  # another process uses the state directory


class Failure(Exception):  # noqa: N818 - the name that the whole house uses
    """An expected failure, told in one line: `message` for the person, `code` for the process."""

    def __init__(self, code: ExitCode, message: str) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message

    def __str__(self) -> str:
        return self.message


def first_line(error: BaseException) -> str:
    """What somebody else's error says, in one line; the name of its type if it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]
