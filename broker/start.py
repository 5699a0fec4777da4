"""Start a broker as a child process and wait until it serves: for the demo, tests and `broker run`.

The broker is a process of its own with its own pid, whichever kind it is, so that it can be
killed and started again as any broker can; and it ends with the process that started it.
"""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as package_version
from pathlib import Path
from types import TracebackType
from typing import IO, Literal, Self, TypeAlias

from broker import mosquitto, tether
from broker.access import Access, access_of, needs_mosquitto
from broker.address import Address, listening_address, port_taken
from broker.log_reading import LogReading
from broker.rendering import CONFIGURATION, render_for
from config.failures import ExitCode, Failure
from config.settings import BrokerKind, BrokerSettings

Kind: TypeAlias = Literal["mosquitto", "embedded"]

START_TIMEOUT_S = 30.0
_ATTEMPTS = 3
_POLL_S = 0.02
_HOME = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True)
class Choice:
    """Which broker to run; `program` is mosquitto's."""

    kind: Kind
    title: str
    program: Path | None = None


class RunningBroker:
    """A broker that accepts connections; leaving its context stops it.

    Attributes:
        title: the program and its version, for people.
        host, port: where to connect to.
        pid: its process, the broker's own.
        log_file: what it has written (None: to stderr of this process).
        taken_up: how many changes of its authority's registry it was started with.
    """

    def __init__(
        self,
        choice: Choice,
        address: Address,
        process: subprocess.Popen[bytes],
        log_file: Path | None,
        reading: LogReading | None = None,
        taken_up: int = 0,
    ) -> None:
        self.kind = choice.kind
        self.title = choice.title
        self.listens_on = address
        self.host = address.reachable.host
        self.port = address.port
        self.pid = process.pid
        self.log_file = log_file
        self.taken_up = taken_up
        self._process = process
        self._reading = reading

    @property
    def alive(self) -> bool:
        """Whether its process still runs."""
        return self._process.poll() is None

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until its process ends of itself, and return its exit status; None if it did not."""
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def stop(self) -> None:
        """End it, in an orderly way if it will; may be called again."""
        tether.end(self._process)
        if self._reading is not None:
            self._reading.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def choose(kind: BrokerKind) -> Choice:
    """The broker for a setting; raises Failure(CONFIG) if it is not installed."""
    program = None if kind == "embedded" else mosquitto.find()
    if program is not None:
        return Choice("mosquitto", f"mosquitto {mosquitto.version(program)}".rstrip(), program)
    if kind == "mosquitto":
        raise Failure(
            ExitCode.CONFIG,
            "broker: mosquitto is not installed; install it (Debian: apt install mosquitto) "
            "or set kind to embedded",
        )
    try:
        return Choice("embedded", f"embedded (amqtt {package_version('amqtt')})")
    except PackageNotFoundError:
        raise Failure(
            ExitCode.CONFIG,
            "broker: neither mosquitto nor amqtt is installed; install one (pip install amqtt)",
        ) from None


def start(settings: BrokerSettings, directory: Path) -> RunningBroker:
    """Start the broker that the settings ask for, its files and its log in `directory`.

    Returns when it has accepted a connection. With an authority, what of the log is worth a line
    is in the file, and nobody takes up what is enrolled or revoked later: that is the work of
    `broker.upkeep`, in `flockwise broker run`. Raises Failure: CONFIG, PORT_TAKEN, CANNOT_WRITE,
    or FAILURE with the last line of its log if it dies or stays silent.
    """
    log_file = directory / "broker.log"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        log = log_file.open("ab")
    except OSError as error:
        raise _cannot_write(log_file, error) from error
    with log:
        return _start(settings, directory, log, log_file)


def start_in_foreground(settings: BrokerSettings, directory: Path) -> RunningBroker:
    """The same, with what the broker writes going to stderr of this process."""
    return _start(settings, directory, None, None)


def _start(
    settings: BrokerSettings, directory: Path, output: IO[bytes] | None, log_file: Path | None
) -> RunningBroker:
    choice = choose(settings.kind)
    attempts = _ATTEMPTS if settings.port == 0 else 1
    with access_of(settings) as access:
        if access.authority is not None and choice.program is None:
            raise needs_mosquitto()
        while True:
            address = listening_address(
                settings.host, settings.port, loopback_only=access.authority is None
            )
            taken_up = access.changes
            command = _command(choice, address, directory, access)
            already_logged = log_file.stat().st_size if log_file else 0
            process, reading = _launch(command, output, log_file, access)
            try:
                failure = _await_service(process, choice, address, log_file, already_logged, access)
            except BaseException:
                tether.end(process)
                raise
            if failure is None:
                return RunningBroker(choice, address, process, log_file, reading, taken_up)
            tether.end(process)
            attempts -= 1
            # A free port may be taken by another in the moment before the broker binds it.
            if failure.code is not ExitCode.PORT_TAKEN or attempts == 0:
                raise failure


def _launch(
    command: list[str], output: IO[bytes] | None, log_file: Path | None, access: Access
) -> tuple[subprocess.Popen[bytes], LogReading | None]:
    if access.authority is None:
        return tether.launch(command, output=output, directory=_HOME), None
    reading = LogReading(access.authority.description.topics, log_file)
    with reading.writing_end as pipe:
        process = tether.launch(command, output=pipe, directory=_HOME)
    reading.start()
    return process, reading


def _command(choice: Choice, address: Address, directory: Path, access: Access) -> list[str]:
    if choice.program is None:
        return [sys.executable, "-m", "broker.embedded", address.host, str(address.port)]
    file = directory.resolve() / CONFIGURATION
    if access.authority is not None:
        now = dt.datetime.now(dt.UTC)
        render_for(access.authority, directory, address.host, address.port, now)
        return mosquitto.command(choice.program, file)
    try:
        file.write_text(mosquitto.configuration(address.host, address.port))
    except OSError as error:
        raise _cannot_write(file, error) from error
    return mosquitto.command(choice.program, file)


def _await_service(
    process: subprocess.Popen[bytes],
    choice: Choice,
    address: Address,
    log_file: Path | None,
    already_logged: int,
    access: Access,
) -> Failure | None:
    give_up_s = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_s:
        if access.serves(address.reachable) and process.poll() is None:
            return None
        if process.poll() is not None:
            break
        time.sleep(_POLL_S)
    said = _last_line(log_file, already_logged)
    if "already in use" in said:
        return port_taken(address)
    status = process.poll()
    what = "stays silent" if status is None else f"ended with status {status}"
    return Failure(
        ExitCode.FAILURE, f"broker: {choice.title} {what} while starting" + (said and f": {said}")
    )


def _last_line(log_file: Path | None, skip_bytes: int) -> str:
    if log_file is None:
        return ""
    lines = log_file.read_bytes()[skip_bytes:].decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""


def _cannot_write(path: Path, error: OSError) -> Failure:
    return Failure(ExitCode.CANNOT_WRITE, f"broker: cannot write {path} ({error.strerror})")
