"""A status for people: one fact a line."""

from __future__ import annotations

from datetime import datetime
from typing import Any

_HIDDEN = frozenset({"told_at", "summary"})


def as_lines(told: dict[str, Any]) -> str:
    """The facts of a status, `name: value` each, the summary first."""
    lines = [_headline(told)]
    width = max((len(name) for name in told), default=0) + 1
    for name, value in told.items():
        if name not in _HIDDEN and value not in (None, "", [], {}):
            lines.append(f"  {name.replace('_', ' ') + ':':<{width}} {_plain(value)}")
    return "\n".join(lines)


def stamped(text: str) -> str:
    """A text with the time of this machine's clock, for people."""
    return f"{text} ({datetime.now().astimezone().isoformat(sep=' ', timespec='seconds')})"


def _headline(told: dict[str, Any]) -> str:
    if not told.get("running"):
        return "not running" + (f"; when last seen: {told['summary']}" if "summary" in told else "")
    since = datetime.fromtimestamp(told["told_at"]).isoformat(sep=" ", timespec="seconds")
    return f"running: {told.get('summary', '')} (as of {since})"


def _plain(value: Any) -> str:
    match value:
        case dict():
            return ", ".join(f"{key} {_plain(one)}" for key, one in value.items())
        case list():
            return ", ".join(_plain(one) for one in value)
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
    # Some of it is what devices say: nothing of that moves a cursor or forges a line.
    return "".join(letter if letter.isprintable() else "?" for letter in str(value))
