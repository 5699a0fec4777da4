"""`flockwise broker run`: a broker in the foreground, until it is told to end."""

from __future__ import annotations

import asyncio
import signal
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import NoReturn

from broker.access import needs_mosquitto
from broker.address import Address, listening_address, require_consent
from broker.authority import open_authority
from broker.start import RunningBroker, choose, start_in_foreground
from broker.upkeep import TURN_S, Upkeep
from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import BrokerSettings
from federation.supervision import Supervisor

PROG = "flockwise broker run"


def main(argv: Sequence[str]) -> int:
    """Run the broker that the settings ask for; SIGTERM ends it with 0.

    Raises Failure: CONFIG, PORT_TAKEN, CANNOT_WRITE, or FAILURE if the broker ends of itself;
    KeyboardInterrupt after a Ctrl-C, when the broker has ended.
    """
    settings = load(BrokerSettings, argv, prog=PROG)
    logs.configure("broker", settings.log_level, settings.log_format)
    with _ending_on_sigterm():
        if choose(settings.kind).kind == "embedded":
            _run_embedded(settings)
        else:
            _run_mosquitto(settings)
    return ExitCode.OK


def _run_mosquitto(settings: BrokerSettings) -> None:
    with _directory(settings) as directory, start_in_foreground(settings, directory) as running:
        _announce(settings, running.title, running.listens_on)
        if settings.authority is None:
            status = running.wait()
        else:
            status = _run_with_authority(settings.authority, running, directory)
        raise Failure(ExitCode.FAILURE, f"broker: {running.title} ended with status {status}")


def _run_with_authority(authority_dir: Path, running: RunningBroker, directory: Path) -> int:
    with open_authority(authority_dir) as authority:
        upkeep = Upkeep(authority, running, directory)
        try:
            while (status := running.wait(TURN_S)) is None:
                upkeep.turn()
            return status
        finally:
            upkeep.stop()


def _run_embedded(settings: BrokerSettings) -> None:
    if settings.authority is not None:
        raise needs_mosquitto()
    require_consent(settings)
    # Where there is mosquitto, amqtt need not be installed.
    from broker import embedded  # noqa: PLC0415

    title = choose("embedded").title
    address = listening_address(settings.host, settings.port, loopback_only=True)
    embedded.quiet_amqtt()
    serving = embedded.serve(address, lambda: _announce(settings, title, address))
    if asyncio.run(serving) is signal.SIGINT:
        raise KeyboardInterrupt


def _announce(settings: BrokerSettings, title: str, address: Address) -> None:
    whom = f", for members of {settings.authority}" if settings.authority is not None else ""
    print(f"broker: {title} on {address}{whom}", flush=True)
    Supervisor().ready()


@contextmanager
def _directory(settings: BrokerSettings) -> Iterator[Path]:
    if settings.state_dir is None:
        with tempfile.TemporaryDirectory(prefix="flockwise-broker-") as name:
            yield Path(name)
        return
    try:
        settings.state_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"broker: cannot make {settings.state_dir} ({error.strerror})"
        ) from error
    yield settings.state_dir


@contextmanager
def _ending_on_sigterm() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(ExitCode.OK)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)
