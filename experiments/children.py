"""The child processes of the demo: started, followed by what they log, and stopped together.

A child writes its stderr straight into a file of its own, and that file is read as it grows: a
slow reader never blocks a child, and its log is whole even if the demo dies. Each child is tied
to this process (`broker.tether`) and never outlives it.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from broker import tether
from config.catalogue import VARIABLE_PREFIX
from config.failures import ExitCode, Failure
from experiments.scoreboard import Ended, Event, Line
from experiments.wording import facts_text, on_one_line

STOP_S = 5.0
LAST_LINES = 5
_HOME = Path(__file__).resolve().parent.parent
_POLL_S = 0.02
_TAIL_BYTES = 16_384
_MOST_BYTES = 4_000_000


def flockwise_command(words: Sequence[str], environ: Mapping[str, str] = os.environ) -> list[str]:
    """The command that runs `flockwise WORDS` with nothing set by the environment."""
    unset = [part for name in environ if name.startswith(VARIABLE_PREFIX) for part in ("-u", name)]
    return ["env", *unset, sys.executable, "-m", "flockwise", *words]


class Children:
    """Processes with a name each; leaving the context stops those that still run."""

    def __init__(self) -> None:
        self._children: dict[str, _Child] = {}

    def start(self, name: str, command: Sequence[str], log_file: Path) -> None:
        """Start a process whose output goes to the file.

        Raises:
            Failure: the file cannot be written, or the process cannot be started.
        """
        try:
            log_file.parent.mkdir(parents=True, exist_ok=True)
            with log_file.open("wb") as log:
                process = tether.launch(command, output=log, directory=_HOME)
            self._children[name] = _Child(name, process, log_file)
        except OSError as error:
            raise Failure(
                ExitCode.CANNOT_WRITE, f"cannot start {name}, log {log_file}: {error.strerror}"
            ) from None

    def poll(self) -> list[Event]:
        """What has happened since the last time: lines that were logged, processes that ended."""
        events: list[Event] = []
        for child in self._children.values():
            # In this order: after the end nothing more is written.
            status = child.process.poll()
            events += child.read()
            if status is not None and not child.told:
                child.told = True
                tether.release(child.process)
                lines = last_lines(child.log_file)
                events.append(Ended(child.name, time.time(), status, how_ended(status), lines))
        return events

    def is_running(self, name: str) -> bool:
        """Whether the process still runs."""
        return self._children[name].process.poll() is None

    def status(self, name: str) -> int | None:
        """Its exit status, negative for a signal; None while it runs."""
        return self._children[name].process.poll()

    def pid(self, name: str) -> int:
        """Its process id, its own and not that of a wrapper."""
        return self._children[name].process.pid

    def stop(
        self, timeout_s: float = STOP_S, in_a_hurry: Callable[[], bool] = lambda: False
    ) -> tuple[str, ...]:
        """Ask all to end, wait, kill those that did not; the names of those that were killed."""
        running = [c for c in self._children.values() if c.process.poll() is None]
        for child in running:
            child.process.terminate()
        until_s = time.monotonic() + timeout_s
        while any(child.process.poll() is None for child in running):
            if time.monotonic() >= until_s or in_a_hurry():
                break
            time.sleep(_POLL_S)
        killed = tuple(child.name for child in running if child.process.poll() is None)
        for child in running:
            child.process.kill()
            child.process.wait()
            child.told = True
            tether.release(child.process)
        return killed

    def close(self) -> None:
        """Stop all that still run, and let go of their logs."""
        self.stop()
        for child in self._children.values():
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class _Child:
    """A process and how far its log has been read."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], log_file: Path) -> None:
        self.name = name
        self.process = process
        self.log_file = log_file
        self.told = False
        self._log = log_file.open("rb")
        self._rest = b""

    def read(self) -> list[Line]:
        pieces = (self._rest + self._log.read(_MOST_BYTES)).split(b"\n")
        self._rest = pieces.pop()
        lines = (parse_line(self.name, piece.decode(errors="replace")) for piece in pieces)
        return [line for line in lines if line is not None]

    def close(self) -> None:
        self._log.close()


def parse_line(source: str, text: str) -> Line | None:
    """What a log line says; None if it is not one JSON object with time, level and text."""
    try:
        told = json.loads(text)
        return Line(
            source,
            time_s=float(told.pop("time")),
            level=str(told.pop("level")),
            text=str(told.pop("text")),
            facts=told,
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def last_lines(log_file: Path, count: int = LAST_LINES) -> tuple[str, ...]:
    """The last lines of a log that matter, as a person reads them: none of level debug."""
    try:
        with log_file.open("rb") as log:
            start = max(0, log_file.stat().st_size - _TAIL_BYTES)
            log.seek(start)
            texts = log.read().decode(errors="replace").splitlines()
    except OSError:
        return ()
    shown = [shown for text in texts[start > 0 :] if (shown := _readable(text))]
    return tuple(shown[-count:])


def how_ended(status: int) -> str:
    """An exit status in words."""
    if status < 0:
        try:
            return f"was ended by {signal.Signals(-status).name}"
        except ValueError:
            return f"was ended by signal {-status}"
    try:
        named = ExitCode(status).name.lower().replace("_", " ")
    except ValueError:
        return f"ended with code {status}"
    return "ended" if status == ExitCode.OK else f"ended with code {status} ({named})"


def _readable(text: str) -> str:
    line = parse_line("", text)
    if line is None:
        return on_one_line(text).rstrip()
    if line.level == "debug":
        return ""
    time_text = time.strftime("%H:%M:%S", time.localtime(line.time_s))
    told = f"{on_one_line(line.text)} {facts_text(line.facts)}".rstrip()
    return f"{time_text} {line.level} {told}"
