"""A device's certificate renewed by itself: asked for on the link that it is still good for.

It sits between the session that carries bytes and the one that believes only what is signed: a
request is signed by the key of the certificate, an answer by the CA, and both are checked as such.
"""

from __future__ import annotations

import datetime as dt
import logging
import time
from math import inf
from pathlib import Path

from config.logs import facts
from federation.certificates import CertificateError
from federation.machine import Linked, Publish, Received
from federation.renewal import due_request, install_certificate
from federation.session import Inbox, Session, SessionEvent

LOOK_EVERY_S = 6 * 3600.0

log = logging.getLogger(__name__)


class CertificateUpkeep:
    """Looks at each connection, and now and then, whether the certificate is due."""

    def __init__(self, membership: Path, ask_on: str, answer_on: str, inbox: Inbox) -> None:
        """Look after the certificate of a membership directory.

        Args:
            ask_on, answer_on: topics of requests and of certificates.
            inbox: what is not about certificates goes there.
        """
        self.session: Session | None = None
        self._membership = membership
        self._ask_on = ask_on
        self._answer_on = answer_on
        self._inbox = inbox
        self._looked_s = -inf

    def receive(self, event: SessionEvent) -> None:
        """Hand an event on; take an answer in."""
        if isinstance(event, Received) and event.topic == self._answer_on:
            self._install(event.payload)
            return
        self._inbox(event)
        if isinstance(event, Linked) or time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            self._looked_s = time.monotonic()
            self._ask()

    def _ask(self) -> None:
        try:
            request = due_request(self._membership, dt.datetime.now(dt.UTC))
        except (CertificateError, OSError) as error:
            log.warning("certificate cannot be looked at", extra=facts(reason=str(error)))
            return
        if request is not None and self.session is not None:
            log.info("certificate is due: asking for a new one")
            self.session.subscribe((self._answer_on,))
            self.session.publish(Publish(self._ask_on, request))

    def _install(self, answer: bytes) -> None:
        try:
            if install_certificate(self._membership, answer):
                log.info("certificate renewed")
        except (CertificateError, OSError) as error:
            log.warning("certificate not renewed", extra=facts(reason=str(error)))
