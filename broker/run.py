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

from broker.address import Address, listening_address
from broker.start import choose, start_in_foreground
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
        _announce(running.title, running.listens_on)
        status = running.wait()
        raise Failure(ExitCode.FAILURE, f"broker: {running.title} ended with status {status}")


def _run_embedded(settings: BrokerSettings) -> None:
    # Where there is mosquitto, amqtt need not be installed.
    from broker import embedded  # noqa: PLC0415

    title = choose("embedded").title
    address = listening_address(settings.host, settings.port, insecure=settings.insecure)
    embedded.quiet_amqtt()
    ended_by = asyncio.run(embedded.serve(address, lambda: _announce(title, address)))
    if ended_by is signal.SIGINT:
        raise KeyboardInterrupt


def _announce(title: str, address: Address) -> None:
    warning = "" if address.is_loopback else "; whoever reaches this address may use it"
    print(f"broker: {title} on {address}{warning}", flush=True)
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
