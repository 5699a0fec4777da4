"""Logs for people: one line a record on stderr, `12:00:03 INFO  coordinator  text key=value`.

With the form `json` each line is an object for machines instead. Facts travel beside the text:
`log.info("update applied", extra=facts(device="camera-7"))`.
"""

from __future__ import annotations

import json
import logging
import sys

from config.sections import LogFormat, LogLevel

_FACTS = "facts"
_OUR_ROOMS = (
    "broker",
    "config",
    "coordinator",
    "device_agent",
    "experiments",
    "federation",
    "learning",
)


def configure(role: str, level: LogLevel, form: LogFormat = "text") -> None:
    """Let this process log to stderr in the name of `role`, from `level` upwards.

    Libraries are heard from `warning` upwards, whatever the level. To call it again is harmless.
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(RoleFormatter(role) if form == "text" else JsonFormatter(role))
    root = logging.getLogger()
    ours = (RoleFormatter, JsonFormatter)
    for former in [one for one in root.handlers if isinstance(one.formatter, ours)]:
        root.removeHandler(former)
    root.addHandler(handler)
    chosen = getattr(logging, level.upper())
    root.setLevel(max(chosen, logging.WARNING))
    for room in _OUR_ROOMS:
        logging.getLogger(room).setLevel(chosen)
    logging.captureWarnings(True)


def facts(**values: object) -> dict[str, object]:
    """Facts for the `extra` of a log call; they follow its text as `key=value`."""
    return {_FACTS: values}


class RoleFormatter(logging.Formatter):
    """Time, level, role, text and facts on one line; a traceback, if any, on lines of its own.

    What devices say ends up in texts and facts, so control characters are escaped: nobody can
    forge a line.
    """

    def __init__(self, role: str) -> None:
        super().__init__(datefmt="%H:%M:%S")
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Tell a record in one line."""
        values = getattr(record, _FACTS, {})
        pairs = "".join(f" {key}={_fact(value)}" for key, value in values.items())
        time, level = self.formatTime(record, self.datefmt), record.levelname
        line = f"{time} {level:<7} {self._role}  {_one_line(record.getMessage())}{pairs}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (seconds since the epoch), level, role, text, and the facts."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role

    def format(self, record: logging.LogRecord) -> str:
        """Tell a record as one JSON object."""
        told = {
            "time": round(record.created, 3),
            "level": record.levelname.lower(),
            "role": self._role,
            "text": record.getMessage(),
            **getattr(record, _FACTS, {}),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def _fact(value: object) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    bare = text.isprintable() and text and not set(text) & set(" =\"'")
    return text if bare else ascii(text)


def _one_line(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode("ascii")
        for letter in text
    )
