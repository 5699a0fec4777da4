"""A session on which every small message is signed, and none is heard that is not.

It wraps the session that carries the bytes: what is published goes out in its envelope, and what
comes in is handed on only if its topic's rightful writer has signed it. So the cores speak and
hear as if broker and network could be trusted. What is not believed is counted and logged.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from config.logs import facts
from config.settings import Link
from federation.certificate_upkeep import CertificateUpkeep
from federation.certificates import COORDINATOR_NAME
from federation.envelope import EnvelopeError, RevokedError, Signer, Verifier
from federation.machine import Publish, Received
from federation.membership import Membership
from federation.paho_session import PahoSession
from federation.session import Identity, Inbox, Session, SessionEvent

# One line in so long: who sends what is not believed shall not fill a disk with it.
TELL_EVERY_S = 10.0

Connect: TypeAlias = Callable[[Identity, Inbox], Session]

log = logging.getLogger(__name__)


def open_session(
    link: Link,
    identity: Identity,
    inbox: Inbox,
    waiting_bytes: Callable[[], int],
    membership: Membership | None,
    least: Mapping[str, int] | None = None,
) -> Session:
    """The session of a role over a real broker; without a membership nothing is signed.

    Args:
        least: for each subject the least epoch of a credential to believe, where one is known.
    """
    if membership is None:
        return PahoSession(link, identity, inbox, waiting_bytes)
    topics, name = membership.topics, membership.member.device or COORDINATOR_NAME

    def connect(identity: Identity, inbox: Inbox) -> Session:
        asks, answers = topics.csr(name), topics.certificate(name)
        upkeep = CertificateUpkeep(membership.folder, asks, answers, inbox)
        upkeep.session = PahoSession(link, identity, upkeep.receive, waiting_bytes)
        return upkeep.session

    return SignedSession(connect, identity, inbox, membership.signer, membership.verifier(least))


class SignedSession:
    """As the session that it wraps; see `federation.session.Session`."""

    def __init__(
        self, connect: Connect, identity: Identity, inbox: Inbox, signer: Signer, verifier: Verifier
    ) -> None:
        """A session that is not started yet.

        Args:
            connect: makes the session that carries the bytes.
        """
        self._signer = signer
        self._verifier = verifier
        self._inbox = inbox
        self._told_s: float | None = None
        self._disbelieved: Counter[str] = Counter()
        will = identity.will
        signed = replace(identity, will=lambda number: signer.sign(will(number)))
        self._inner = connect(signed, self._receive)

    def start(self) -> None:
        """Begin to connect; returns at once."""
        self._inner.start()

    def publish(self, message: Publish) -> bool:
        """Sign a message and hand it over; False if it was dropped."""
        return self._inner.publish(self._signer.sign(message))

    def subscribe(self, topics: Sequence[str]) -> None:
        """Subscribe to exact topics for the time of this connection."""
        self._inner.subscribe(topics)

    def unsubscribe(self, topics: Sequence[str]) -> None:
        """Give these subscriptions back."""
        self._inner.unsubscribe(topics)

    @property
    def alive(self) -> bool:
        """Whether what carries the link runs."""
        return self._inner.alive

    @property
    def backlog_bytes(self) -> int:
        """Bytes that were published and have not left yet."""
        return self._inner.backlog_bytes

    @property
    def disbelieved(self) -> Mapping[str, int]:
        """How many messages were not handed on as nobody vouched for them, by the reason."""
        return self._disbelieved

    @property
    def traffic(self) -> tuple[int, int]:
        """Bytes of payloads sent and received since the session was made."""
        return self._inner.traffic

    def stop(self, farewell: Publish | None = None) -> None:
        """Say goodbye, with a last signed message if there is one, and end."""
        self._inner.stop(None if farewell is None else self._signer.sign(farewell))

    def _receive(self, event: SessionEvent) -> None:
        if isinstance(event, Received):
            try:
                payload, epoch = self._verifier.read(event.topic, event.payload)
            except EnvelopeError as error:
                self._disbelieve(event.topic, str(error))
                if isinstance(error, RevokedError) and error.was_last:
                    # What it says counts no more; that it is there, neither.
                    self._inbox(replace(event, payload=b""))
                return
            if payload is not event.payload:
                event = replace(event, payload=payload, epoch=epoch)
        self._inbox(event)

    def _disbelieve(self, topic: str, why: str) -> None:
        self._disbelieved[why] += 1
        now_s = time.monotonic()
        if self._told_s is not None and now_s - self._told_s < TELL_EVERY_S:
            return
        self._told_s = now_s
        total = self._disbelieved.total()
        log.warning(
            "message not believed", extra=facts(topic=topic[:100], reason=why, so_far=total)
        )
