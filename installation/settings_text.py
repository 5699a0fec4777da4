"""Changes a few values in the text of a TOML file and leaves all else, comments too, as it is.

It works by lines and does not understand TOML; so what it made is read by who does, and has to say
what was meant.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from config.failures import ExitCode, Failure

_TABLE = re.compile(r"\s*\[([^\[\]]*)\]\s*(#.*)?")
_KEY = re.compile(r"\s*([A-Za-z0-9_-]+)\s*=")


def with_values(text: str, values: Mapping[str, tuple[str, str]], where: str) -> str:
    """The same settings, but for some values.

    Args:
        values: by the setting that is replaced (`link.password`), the one that takes its place and
            what it says. One at the top of the file that is not there is added.
        where: the file, for errors, which do not show what it says.

    Raises:
        Failure: a value does not stand on a line of its own.
    """
    lines: list[str] = []
    missing = {setting for setting in values if "." not in setting}
    table = ""
    for line in text.splitlines(keepends=True):
        if found := _TABLE.fullmatch(line.rstrip("\r\n")):
            table = f"{found[1].strip()}."
        key = _KEY.match(line)
        setting = f"{table}{key[1]}" if key else ""
        if setting in values:
            missing.discard(setting)
            lines.append(_line(*values[setting]))
        else:
            lines.append(line)
    added = [_line(*values[setting]) for setting in values if setting in missing]
    made = "".join([*added, *lines])
    if _read(made) != _meant(text, values):
        raise Failure(
            ExitCode.CONFIG,
            f"{where}: each of {', '.join(values)} must stand on a line of its own, in one piece,"
            " for the service to have its own",
        )
    return made


def _line(setting: str, value: str) -> str:
    return f"{setting.rpartition('.')[2]} = {json.dumps(value)}\n"


def _read(text: str) -> dict[str, Any] | None:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return None


def _meant(text: str, values: Mapping[str, tuple[str, str]]) -> dict[str, Any]:
    meant = tomllib.loads(text)
    for old, (new, value) in values.items():
        table, _, key = old.rpartition(".")
        section = meant[table] if table else meant
        section.pop(key, None)
        section[new.rpartition(".")[2]] = value
    return meant
