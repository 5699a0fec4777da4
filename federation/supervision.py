"""What a service manager is told: ready, how it goes, still alive. Without one, nothing is told.

The protocol is sd_notify(3): one datagram for each word, to the socket that the environment
names. `systemd` restarts a service that promised to give a sign of life and did not.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Callable, Mapping
from math import inf

log = logging.getLogger(__name__)

FEED_FRACTION = 1 / 3


class Supervisor:
    """The service manager that started this process, if one did."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        self._status = ""
        self._feed_every_s = _watchdog_s(environ) * FEED_FRACTION
        # When the next sign of life is due, on the monotonic clock; infinity if never.
        self.due_s = -inf if self._feed_every_s < inf else inf

    def ready(self) -> None:
        """The service does what it is there for."""
        self._tell("READY=1")

    def reloading(self) -> None:
        """The service takes up its settings anew; `ready` ends it."""
        self._tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._tell("STOPPING=1")

    def status(self, text: str) -> None:
        """How it goes, in one line; told only when it is something new."""
        if text != self._status:
            self._status = text
            self._tell(f"STATUS={text}")

    def feed(self, is_alive: Callable[[], bool]) -> None:
        """A sign of life, if it is time for one and there is life; else it is left out."""
        if time.monotonic() >= self.due_s:
            self.due_s = time.monotonic() + self._feed_every_s
            if is_alive():
                self._tell("WATCHDOG=1")

    def _tell(self, words: str) -> None:
        if not self._address:
            return
        name = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.sendto(words.encode(), name)
        except OSError as error:
            log.warning("the service manager cannot be told: %s", error.strerror or error)


def _watchdog_s(environ: Mapping[str, str]) -> float:
    """How long the service manager waits for a sign of life; infinity if it does not."""
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return inf
    period = environ.get("WATCHDOG_USEC", "")
    return int(period) / 1e6 if period.isascii() and period.isdigit() and int(period) else inf
