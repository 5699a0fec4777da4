"""Settings written as the TOML file from which a role loads exactly these settings again."""

from __future__ import annotations

import json
from functools import reduce
from itertools import groupby
from pathlib import Path

from config.catalogue import Kind, Setting, catalogue
from config.failures import ExitCode, Failure
from config.settings import Settings


def as_toml(settings: Settings, heading: str) -> str:
    """All settings in a TOML text, with `heading` as its comment; secrets are left out."""
    known = [one for one in catalogue(type(settings)).settings if one.kind is not Kind.SECRET]
    lines = [f"# {line}" for line in heading.splitlines()]
    # The catalogue gives the role's own settings first, so that they stand before any table.
    for section, members in groupby(known, key=lambda setting: setting.section):
        lines += ["", f"[{section}]"] if section else [""]
        lines += [f"{one.path[-1]} = {_value(settings, one)}" for one in members]
    return "\n".join(lines) + "\n"


def write_settings(path: Path, settings: Settings, heading: str) -> None:
    """Write `as_toml` to a file, in a directory that is made where needed.

    Raises:
        Failure: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(as_toml(settings, heading), encoding="utf-8")
    except OSError as error:
        raise Failure(ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror}") from None


def _value(settings: Settings, setting: Setting) -> str:
    value = reduce(getattr, setting.path, settings)
    match value:
        case None:
            return '"none"'
        case bool():
            return str(value).lower()
        case int() | float():
            return repr(value)
        case _:
            # JSON's strings are TOML's, but for DEL, which JSON leaves as it is.
            return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")
