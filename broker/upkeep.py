"""What a broker with an authority needs while it runs: changes taken up, certificates renewed.

Commands change the registry; here it is looked at twice a second. mosquitto is given new files and
SIGHUP, at which it reads its access list, passwords, list of the revoked and own certificate anew;
but a client that is connected stays. So who is revoked or was enrolled anew is put out by hand.
"""

from __future__ import annotations

import datetime as dt
import json
import logging
import os
import signal
import sqlite3
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from broker.authority import Authority
from broker.door import end_connection
from broker.enrolment import renew_coordinator
from broker.registry import Entry
from broker.rendering import render_for
from broker.renewing import Renewing
from broker.start import RunningBroker
from config.failures import Failure
from config.logs import facts
from federation.certificates import COORDINATOR_NAME, CertificateError
from federation.files import replace_file
from federation.state_directory import StateDirectory, is_locked

TURN_S = 0.5
TELL_EVERY_S = 60.0
RENEW_EVERY_S = 86_400.0
_RUNNING = "running.json"

log = logging.getLogger(__name__)


class Upkeep:
    """The upkeep of one running broker; `turn` is to be called every `TURN_S`."""

    def __init__(self, authority: Authority, running: RunningBroker, directory: Path) -> None:
        """Look at what holds now, and begin to answer requests for renewal."""
        self._authority = authority
        self._running = running
        self._directory = directory
        self._lock = StateDirectory(authority.directory)
        self._applied = running.taken_up
        self._is_noted = False
        self._known = _by_subject(authority)
        self._renewed_s: float | None = None
        self._renewing: Renewing | None = None
        self._troubled_s: float | None = None

    def turn(self) -> None:
        """Take up what has changed, renew what is due, answer what was asked.

        A full disk, or the like, does not end a broker that serves: it is tried again.
        """
        try:
            self._turn()
        except (Failure, OSError, sqlite3.Error) as error:
            now_s = time.monotonic()
            if self._troubled_s is None or now_s - self._troubled_s > TELL_EVERY_S:
                self._troubled_s = now_s
                log.error("upkeep of the broker failed, trying again: %s", error)

    def _turn(self) -> None:
        changes = self._authority.registry.changes
        if changes != self._applied:
            self._take_up()
            self._applied, self._is_noted = changes, False
        if not self._is_noted:
            self._note()
            self._is_noted = True
        now_s = time.monotonic()
        if self._renewed_s is None or now_s - self._renewed_s >= RENEW_EVERY_S:
            self._renew_own()
            self._renewed_s = now_s
        if self._renewing is not None:
            self._renewing.turn()

    def stop(self) -> None:
        """End; the broker is not touched."""
        if self._renewing is not None:
            self._renewing.stop()
        (self._authority.directory / _RUNNING).unlink(missing_ok=True)
        self._lock.close()

    def _take_up(self) -> None:
        now_holds = _by_subject(self._authority)
        put_out = [
            subject
            for subject, before in self._known.items()
            if not before.is_revoked
            and (now_holds[subject].is_revoked or now_holds[subject].epoch != before.epoch)
        ]
        for subject in put_out:
            self._put_out(subject)  # its will is still published
        self._render()
        for subject in put_out:
            self._put_out(subject)  # what came back before it was shut out
            if now_holds[subject].is_revoked:
                log.warning("revoked, and put out", extra=facts(device=subject))
        self._known = now_holds

    def _put_out(self, subject: str) -> None:
        if self._authority.description.clients == "certificates":
            address = self._running.listens_on.reachable
            end_connection(self._authority, address, subject or COORDINATOR_NAME)

    def _render(self) -> None:
        address = self._running.listens_on
        now = dt.datetime.now(dt.UTC)
        render_for(self._authority, self._directory, address.host, address.port, now)
        with suppress(ProcessLookupError):  # it has just ended, which is told elsewhere
            os.kill(self._running.pid, signal.SIGHUP)

    def _renew_own(self) -> None:
        now = dt.datetime.now(dt.UTC)
        if self._authority.renew_server(now):
            self._render()
        try:
            if renew_coordinator(self._authority, now):
                log.info("certificate renewed", extra=facts(role="coordinator"))
        except CertificateError as error:
            log.warning("the coordinator's certificate is not renewed: %s", error)
        self._begin_renewing()

    def _begin_renewing(self) -> None:
        if self._renewing is not None:
            self._renewing.stop()
        if self._authority.description.clients == "certificates":
            self._renewing = Renewing(self._authority, self._running.listens_on)

    def _note(self) -> None:
        text = json.dumps({"applied": self._applied})
        replace_file(self._authority.directory / _RUNNING, text.encode(), private=True)


@dataclass(frozen=True, slots=True)
class Taken:
    """Whether a running broker has taken up what was changed."""

    runs: bool
    in_effect: bool


def await_taken_up(authority: Authority, timeout_s: float) -> Taken:
    """Wait until the broker that runs from this authority has taken up the registry as it is."""
    wanted = authority.registry.changes
    end_s = time.monotonic() + timeout_s
    while (applied := _applied(authority.directory)) is not None:
        if applied >= wanted:
            return Taken(runs=True, in_effect=True)
        if time.monotonic() > end_s:
            return Taken(runs=True, in_effect=False)
        time.sleep(0.05)
    return Taken(runs=False, in_effect=False)


def _applied(directory: Path) -> int | None:
    """How many changes the running broker has taken up; None if none runs."""
    if not is_locked(directory):
        return None
    try:
        return int(json.loads((directory / _RUNNING).read_bytes())["applied"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # it has just begun


def _by_subject(authority: Authority) -> dict[str, Entry]:
    return {entry.subject: entry for entry in authority.registry.entries()}
