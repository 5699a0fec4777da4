"""What a federation in memory trusts in: signers, sealing keys, and sessions that use them.

The signing, the sealing and the screening are the product's own; only the disks are dicts.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator import vocabulary as cv
from coordinator.keyring import Keyring
from coordinator.screening import screen
from coordinator.spool import Spool
from federation.compression import encode
from federation.credentials import COORDINATOR
from federation.envelope import Signer
from federation.layout import Layout
from federation.machine import Received
from federation.messages import Header, Offer
from federation.sealing import about, key_id, seal
from federation.session import Identity, SessionEvent
from federation.signed_session import Connect, SignedSession
from federation.topics import Topics
from tests.members import Authority

CODEC = "int8"


class Trust:
    """The authority of a federation, and what each of its members has from it.

    Attributes:
        epoch: of the coordinator's credential.
        disbelieved: why messages were not believed, over all sessions that there ever were.
    """

    def __init__(self, topics: Topics, layout: Layout) -> None:
        self.authority = Authority(topics)
        self.keyring = MemoryKeyring(topics.root.rstrip("/"))
        self.epoch = 1
        self.disbelieved: Counter[str] = Counter()
        self._topics = topics
        self._layout = layout
        self._signers: dict[tuple[str, int], Signer] = {}

    @property
    def federation(self) -> str:
        return self._topics.root.rstrip("/")

    def signer(self, subject: str, epoch: int = 1) -> Signer:
        if (subject, epoch) not in self._signers:
            self._signers[subject, epoch] = self.authority.signer(subject, epoch)
        return self._signers[subject, epoch]

    def session(self, connect: Connect, identity: Identity, party: Any) -> SignedSession:
        """The session of a party as its service makes it."""
        if party.name == "coordinator":
            return WatchedSession(connect, identity, party, self.signer(COORDINATOR, self.epoch))
        header = party.disk.header
        least = {COORDINATOR: 0 if header is None else header.signer}
        return WatchedSession(connect, identity, party, self.signer(party.device), least)

    def sealed(
        self, device: str, outbox: bytes, sequence: int, header: Header
    ) -> tuple[bytes, bytes]:
        """An update that a device makes on a version: as it is, and as it leaves the device."""
        seed = [*device.encode(), *outbox, sequence]
        delta = np.random.default_rng(seed).standard_normal(self._layout.size, np.float32)
        payload = encode(CODEC, delta)
        what = about(
            self.federation, device, outbox, sequence, header.ledger, header.version, CODEC
        )
        return payload, seal(payload, header.seal, what)

    def screened(
        self, spool: dict[cv.UpdateId, dict[int, bytes]], id: cv.UpdateId, offer: Offer
    ) -> cv.Screened:
        """By way of a disk, as the product reads and opens what lies there."""
        with TemporaryDirectory() as folder:
            disk = Spool(Path(folder))
            disk.path(id).write_bytes(b"".join(data for _, data in sorted(spool[id].items())))
            told = screen(disk, self._layout, id, offer, self.keyring.unseal)
            payload, size = disk.path(id).read_bytes(), offer.payload.chunk_bytes
        spool[id] = {n: payload[n * size : (n + 1) * size] for n in range(-(-len(payload) // size))}
        return told


class WatchedSession(SignedSession):
    """A signed session whose world hears what was believed."""

    def __init__(
        self,
        connect: Connect,
        identity: Identity,
        party: Any,
        signer: Signer,
        least: dict[str, int] | None = None,
    ) -> None:
        self._party = party
        trust = party.world.trust
        super().__init__(
            connect, identity, party.inbox, signer, trust.authority.verifier(least or {})
        )

    def _receive(self, event: SessionEvent) -> None:
        before = Counter(self.disbelieved)
        super()._receive(event)
        news = Counter(self.disbelieved) - before
        world = self._party.world
        world.trust.disbelieved.update(news)
        if isinstance(event, Received):
            world.opened(self._party, event, believed=not news)


class MemoryKeyring(Keyring):
    """A keyring without a folder."""

    def __init__(self, federation: str) -> None:
        self._federation = federation
        self._keys = {}
        self.rotate()

    def rotate(self) -> None:
        key = X25519PrivateKey.generate()
        self.current = key.public_key().public_bytes_raw()
        self._keys[key_id(self.current)] = key

    def refresh(self) -> bytes:
        return self.current
