"""A file with a line of JSON for each thing that is done, so that nothing is done twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from os import SEEK_END
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Add a line; one that was broken off before it is ended first.

    Raises:
        Failure: the file cannot be written.
    """
    line = json.dumps(values, sort_keys=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as file:
            end = file.seek(0, SEEK_END)
            file.seek(max(0, end - 1))
            broken_off = end > 0 and file.read() != b"\n"
            file.write((b"\n" if broken_off else b"") + line.encode() + b"\n")
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror}") from None


def lines_in(path: Path) -> Iterator[tuple[int, Any]]:
    """The number of each line, from 1, and its value; none if there is no file.

    A line that was broken off is passed over.

    Raises:
        Failure: the file cannot be read.
    """
    if not path.exists():
        return
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise Failure(ExitCode.NO_INPUT, f"cannot read {path}: {reason}") from None
    for number, line in enumerate(lines, 1):
        try:
            yield number, json.loads(line)
        except ValueError:
            continue
