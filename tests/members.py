"""Memberships for tests: an authority in memory, and the directories that it gives out."""

from __future__ import annotations

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.sections import FederationName
from federation.credentials import COORDINATOR, Credential, issue
from federation.envelope import Signer, Verifier
from federation.files import replace_file
from federation.membership import Member, Membership, read_membership
from federation.topics import Topics


class Authority:
    """The one that says who is who; nothing of it is on disk."""

    def __init__(self, topics: Topics) -> None:
        self.topics = topics
        self.key = Ed25519PrivateKey.generate()
        self.public = self.key.public_key().public_bytes_raw()

    def signer(self, subject: str = COORDINATOR, epoch: int = 1) -> Signer:
        key = Ed25519PrivateKey.generate()
        return Signer(key, self.credential(subject, key, epoch))

    def credential(self, subject: str, key: Ed25519PrivateKey, epoch: int = 1) -> bytes:
        federation = f"{self.topics.prefix}/{self.topics.name}"
        public = key.public_key().public_bytes_raw()
        told = Credential(federation=federation, subject=subject, epoch=epoch, key=public)
        return issue(self.key, told)

    def verifier(self, least: dict[str, int] | None = None) -> Verifier:
        return Verifier(self.public, self.topics, least or {})

    def membership(
        self, folder: Path, device: str = COORDINATOR, port: int = 1883, epoch: int = 1
    ) -> Membership:
        """A membership without TLS, for a broker on this machine."""
        folder.mkdir(parents=True, exist_ok=True)
        key = Ed25519PrivateKey.generate()
        federation = FederationName(prefix=self.topics.prefix, name=self.topics.name)
        member = Member.model_construct(
            format=1,
            federation=federation,
            device=device,
            host="127.0.0.1",
            port=port,
            authority=self.public,
            tls=False,
            username=None,
        )
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        replace_file(folder / "member.json", member.model_dump_json().encode())
        replace_file(folder / "credential", self.credential(device, key, epoch))
        replace_file(folder / "signing.key", pem, private=True)
        return read_membership(folder)
