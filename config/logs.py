"""Logs for people: one line a record on stderr, `12:00:03 INFO  coordinator  text key=value`.

Where stderr goes to the journal of systemd, records go there themselves, with their level and
their facts as fields (`journalctl FLOCKWISE_DEVICE=camera-7`). With the form `json` each line is an
object for machines instead. Facts travel beside the text:
`log.info("update applied", extra=facts(device="camera-7"))`.
"""

from __future__ import annotations

import json
import logging
import re
import sys
from typing import TYPE_CHECKING

from config.values import LogFormat, LogLevel

if TYPE_CHECKING:
    from logging_journald import JournaldTransport

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


def configure(role: str, level: LogLevel, form: LogFormat = "auto") -> None:
    """Let this process log in the name of `role`, from `level` upwards.

    Libraries are heard from `warning` upwards, whatever the level. To call it again is harmless.
    """
    root = logging.getLogger()
    ours = (RoleFormatter, JsonFormatter, JournalFormatter)
    for former in [one for one in root.handlers if isinstance(one.formatter, ours)]:
        root.removeHandler(former)
        former.close()
    root.addHandler(_handler(role, form))
    chosen = getattr(logging, level.upper())
    root.setLevel(max(chosen, logging.WARNING))
    for room in _OUR_ROOMS:
        logging.getLogger(room).setLevel(chosen)
    logging.captureWarnings(True)


def _handler(role: str, form: LogFormat) -> logging.Handler:
    if form == "auto" and (journal := _journal()) is not None:
        return JournalHandler(role, journal)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(role) if form == "json" else RoleFormatter(role))
    return handler


def _journal() -> JournaldTransport | None:
    """The journal, if that is where our stderr goes."""
    # Only a service needs it, and only Linux has it.
    from logging_journald import JournaldTransport, check_journal_stream  # noqa: PLC0415

    try:
        return JournaldTransport() if check_journal_stream() else None
    except (OSError, ValueError):
        return None


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
        time, level = self.formatTime(record, self.datefmt), record.levelname
        line = f"{time} {level:<7} {self._role}  {_one_line(record.getMessage())}{_pairs(record)}"
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


class JournalFormatter(logging.Formatter):
    """The text and facts of a record on one line; the journal adds who and when."""

    def format(self, record: logging.LogRecord) -> str:
        """Tell a record in one line."""
        line = f"{_one_line(record.getMessage())}{_pairs(record)}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


class JournalHandler(logging.Handler):
    """Records as entries of systemd's journal (its native protocol), facts as fields."""

    def __init__(self, role: str, journal: JournaldTransport) -> None:
        super().__init__()
        self.setFormatter(JournalFormatter())
        self._role = role
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """Send one entry; what cannot be sent is told on stderr, as logging does."""
        try:
            self._journal.send(self._fields(record))
        except OSError:
            self.handleError(record)

    def close(self) -> None:
        """Let go of the journal."""
        self._journal.socket.close()
        super().close()

    def _fields(self, record: logging.LogRecord) -> list[tuple[str, str]]:
        values = getattr(record, _FACTS, {})
        return [
            ("MESSAGE", self.format(record)),
            ("PRIORITY", str(_PRIORITIES.get(record.levelno, 6))),
            ("SYSLOG_IDENTIFIER", "flockwise"),
            ("FLOCKWISE_ROLE", self._role),
            ("LOGGER", record.name),
            *((f"FLOCKWISE_{_FIELD.sub('_', key.upper())}", str(v)) for key, v in values.items()),
        ]


_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}
_FIELD = re.compile(r"[^A-Z0-9_]")


def _pairs(record: logging.LogRecord) -> str:
    values = getattr(record, _FACTS, {})
    return "".join(f" {key}={_fact(value)}" for key, value in values.items())


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
