"""A thread that reads what mosquitto logs, and passes on what is worth a line."""

from __future__ import annotations

import logging
import os
import threading
import time
from pathlib import Path
from typing import IO

from broker.log_lines import LogReader
from federation.topics import Topics

log = logging.getLogger(__name__)


class LogReading(threading.Thread):
    """Reads the pipe that mosquitto writes to, until it has ended.

    Attributes:
        writing_end: what to give to the process; to be closed here when it has it.
    """

    def __init__(self, federation: Topics, log_file: Path | None) -> None:
        """Lines go to the file, or where there is none to our own log."""
        super().__init__(name="broker-log", daemon=True)
        reading, writing = os.pipe()
        self._lines: IO[bytes] = os.fdopen(reading, "rb")
        self.writing_end: IO[bytes] = os.fdopen(writing, "wb")
        self._reader = LogReader(federation, time.monotonic)
        self._file = log_file

    def run(self) -> None:
        """Read to the end."""
        with self._lines:
            # A line of any length is read in parts, as nothing here is to hold much of it.
            while line := self._lines.readline(4096):
                told = self._reader.read(line.decode(errors="replace"))
                if told is not None:
                    self._tell(told)

    def _tell(self, text: str) -> None:
        if self._file is None:
            log.warning("%s", text)
            return
        with self._file.open("a") as stream:
            stream.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')}: {text}\n")
