"""Which Python the environments are made with: one that services can see."""

from __future__ import annotations

import sys

from config.failures import ExitCode, Failure
from installation.machine import Machine

OLDEST = (3, 11)
_HIDDEN = ("/home/", "/root/", "/run/user/", "/tmp/", "/var/tmp/")
_ASK = (
    "import os, sys, ensurepip, venv; "
    "print(*sys.version_info[:2], os.path.realpath(sys._base_executable))"
)
_PLACES = ("/usr/bin/python3", "/usr/local/bin/python3")


class _Refused(Exception):  # noqa: N818 - a reason, not a failure yet
    pass


def find_python(machine: Machine, given: str | None) -> str:
    """The interpreter to use: the one that is given, else the running one, else the system's.

    Raises Failure if none will do, with the reason of the first.
    """
    refused: list[str] = []
    for program in (given,) if given else (sys.executable, *_PLACES):
        try:
            return _look(machine, program)
        except _Refused as refusal:
            refused.append(str(refusal))
    raise Failure(ExitCode.UNAVAILABLE, f"{refused[0]}; name another with --python")


def _look(machine: Machine, program: str) -> str:
    told = machine.run((program, "-c", _ASK))
    if told.status != 0:
        if "No module named" in told.last_words:
            raise _Refused(f"{program} cannot make environments (Debian: apt install python3-venv)")
        raise _Refused(f"{program} is no Python that runs: {told.last_words}")
    major, minor, path = told.output.split(maxsplit=2)
    if (int(major), int(minor)) < OLDEST:
        raise _Refused(f"{program} is Python {major}.{minor}, and Flockwise needs 3.11 or later")
    path = path.strip()
    if path.startswith(_HIDDEN):
        raise _Refused(f"{path} lies where services do not look, in a home or temporary directory")
    return path
