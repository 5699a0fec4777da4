"""Certificates of members renewed over the broker itself: a request comes up, the answer goes down.

That a request is the device's own is held by the broker's rights, and by the request's signature
with the enrolled key.
"""

from __future__ import annotations

import datetime as dt
import logging
import queue
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from broker.address import Address
from broker.authority import Authority
from broker.door import write_identity
from broker.enrolment import renewed
from config.logs import facts
from config.sections import Link
from federation.certificates import AUTHORITY_NAME, COORDINATOR_NAME, CertificateError
from federation.credentials import COORDINATOR
from federation.machine import Publish, Received, Unlinked
from federation.paho_session import PahoSession
from federation.session import Identity, SessionEvent
from federation.topics import Place

# Of the certificate with which this connects; it is made anew when a session is.
IDENTITY_DAYS = 7.0
# A device gets no second certificate in this time, whatever it asks.
AGAIN_S = 600.0
_MOST_WAITING = 1000
_LONGEST_REQUEST = 8192

log = logging.getLogger(__name__)


class Renewing:
    """The service that answers; `turn` does its work, on the thread of the caller."""

    def __init__(self, authority: Authority, address: Address) -> None:
        """Connect to the broker that this authority has there."""
        self._authority = authority
        self._inbox: queue.Queue[SessionEvent] = queue.Queue(_MOST_WAITING)
        self._answered_s: dict[str, float] = {}
        topics = authority.description.topics
        self._files = tempfile.TemporaryDirectory(prefix="flockwise-authority-")
        certificate, key = write_identity(
            authority, AUTHORITY_NAME, Path(self._files.name), IDENTITY_DAYS
        )
        link = Link(
            host=address.reachable.host,
            port=address.port,
            tls=True,
            ca_file=authority.directory / "ca.pem",
            cert_file=certificate,
            key_file=key,
            backoff_base_s=1.0,
            backoff_cap_s=5.0,
        )
        nobody = Publish(topics.certificate("-"), b"", qos=0, retain=False)
        identity = Identity(AUTHORITY_NAME, topics.authority_filters(), lambda _: nobody, boot=0)
        self._session = PahoSession(link, identity, self._take)
        self._session.start()

    def turn(self) -> None:
        """Answer what has come."""
        while True:
            try:
                event = self._inbox.get_nowait()
            except queue.Empty:
                return
            if isinstance(event, Received):
                self._answer(event)
            elif isinstance(event, Unlinked):
                log.info("renewal: %s", event.reason)

    def stop(self) -> None:
        """Disconnect."""
        self._session.stop()
        self._files.cleanup()

    def _take(self, event: SessionEvent) -> None:
        if isinstance(event, Received) and len(event.payload) > _LONGEST_REQUEST:
            return
        with suppress(queue.Full):  # a device asks again
            self._inbox.put_nowait(event)

    def _answer(self, event: Received) -> None:
        name = self._who_asks(event.topic)
        if name is None:
            return
        now_s = time.monotonic()
        if now_s - self._answered_s.get(name, -AGAIN_S) < AGAIN_S:
            return
        self._answered_s[name] = now_s
        subject = COORDINATOR if name == COORDINATOR_NAME else name
        try:
            answer = renewed(self._authority, event.payload, subject, dt.datetime.now(dt.UTC))
        except CertificateError as error:
            log.warning("certificate not renewed", extra=facts(device=name, reason=str(error)))
            return
        topic = self._authority.description.topics.certificate(name)
        self._session.publish(Publish(topic, answer, qos=1, retain=True))
        log.info("certificate renewed", extra=facts(device=name))

    def _who_asks(self, topic: str) -> str | None:
        """The name in a topic of requests; the coordinator has one there too."""
        topics = self._authority.description.topics
        if topic == topics.csr(COORDINATOR_NAME):
            return COORDINATOR_NAME
        address = topics.parse(topic)
        return address.device if address is not None and address.place is Place.CSR else None
