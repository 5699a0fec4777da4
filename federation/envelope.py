"""The envelope of a small message: who says it, and a signature over the topic and the message.

Whoever opens one knows that its topic's rightful writer (`topics.RIGHTS`) has said just this on
just this topic: neither a broker nor another device can forge a message, alter it, or move it to
another topic. It is self-contained, as the writer's credential is in it. Chunks go without: the
digests of a signed header or offer vouch for them. What is old is for the cores to see, by
incarnations, ages and sequence numbers.

    0x01 | length of the credential, uint16 | credential | Ed25519 signature, 64 bytes | message
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from federation.credentials import (
    COORDINATOR,
    LONGEST,
    SIGNATURE_BYTES,
    Credential,
    CredentialError,
    verified,
)
from federation.machine import Publish
from federation.messages import FRAME_MARK, MAX_MESSAGE_BYTES, SIGNED_MARK
from federation.topics import RIGHTS, Address, Role, Topics

_HEAD = struct.Struct("<BH")
_PURPOSE = b"flockwise message\0"
# So many credentials are kept as verified; a fleet's verify at most so often.
_KEPT = 4096


class EnvelopeError(ValueError):
    """A message that its topic's writer has not signed; the reason is one line."""


class RevokedError(EnvelopeError):
    """The credential was replaced or revoked.

    Attributes:
        was_last: whether it is the last one of its subject that was believed.
    """

    def __init__(self, *, was_last: bool) -> None:
        super().__init__("the credential was replaced or revoked")
        self.was_last = was_last


@dataclass(frozen=True, slots=True)
class Signer:
    """What a role signs with: its private key, and the credential that names the public one."""

    key: Ed25519PrivateKey
    credential: bytes

    def sign(self, message: Publish) -> Publish:
        """The message in its envelope; chunks are left as they are."""
        if not message.payload or message.payload[0] == FRAME_MARK:
            return message
        signature = self.key.sign(_signed(message.topic, message.payload))
        head = _HEAD.pack(SIGNED_MARK, len(self.credential))
        return replace(
            message, payload=b"".join((head, self.credential, signature, message.payload))
        )


class Verifier:
    """What a role believes: the authority's word on who is who, and the latest of it."""

    def __init__(
        self,
        authority: bytes,
        topics: Topics,
        least: Mapping[str, int],
        told: Callable[[], Mapping[str, int]] = lambda: {},
    ) -> None:
        """Believe credentials of this authority for these topics.

        Args:
            authority: Ed25519 public key, 32 bytes.
            least: for each subject the least epoch to believe, where one is known.
            told: gives more of these, as revocations come.
        """
        self._told = told
        self._authority = authority
        self._topics = topics
        self._federation = f"{topics.prefix}/{topics.name}"
        self.least = dict(least)
        self._verified: dict[bytes, Credential] = {}

    def read(self, topic: str, payload: bytes) -> tuple[bytes, int | None]:
        """The message in an envelope, and the epoch of its credential; a chunk as it is, and None.

        Raises:
            EnvelopeError: it is not signed by the one who writes on this topic.
        """
        if not payload:
            raise EnvelopeError("it is empty")
        if payload[0] == FRAME_MARK:
            return payload, None
        credential, signature, body = _parts(payload)
        address = self._topics.parse(topic)
        if address is None:
            raise EnvelopeError("a foreign topic")
        signer = self._believed(credential)
        if signer.subject != _writer(address):
            raise EnvelopeError(f"{signer.subject or 'the coordinator'} has no right to it")
        try:
            key = Ed25519PublicKey.from_public_bytes(signer.key)
            key.verify(signature, _signed(topic, body))
        except (InvalidSignature, ValueError):
            raise EnvelopeError("the signature is wrong: altered, or moved to here") from None
        # Only now, as a credential can be shown by everyone who has seen it.
        self.least[signer.subject] = max(signer.epoch, self.least.get(signer.subject, 0))
        return body, signer.epoch

    def _believed(self, signed: bytes) -> Credential:
        credential = self._verified.get(signed)
        if credential is None:
            try:
                credential = verified(self._authority, signed)
            except CredentialError as error:
                raise EnvelopeError(str(error)) from None
            if len(self._verified) >= _KEPT:
                self._verified.clear()
            self._verified[signed] = credential
        if credential.federation != self._federation:
            raise EnvelopeError(f"the credential is of the federation {credential.federation}")
        subject = credential.subject
        if credential.epoch < max(self.least.get(subject, 0), self._told().get(subject, 0)):
            raise RevokedError(was_last=self.least.get(subject) == credential.epoch)
        return credential


def _writer(address: Address) -> str | None:
    """The subject that writes on a topic: a device's id, or the coordinator."""
    (right,) = (right for right in RIGHTS if right.place is address.place)
    match right.writer:
        case Role.COORDINATOR:
            return COORDINATOR
        case Role.THE_DEVICE:
            return address.device
    return None


def _signed(topic: str, body: bytes) -> bytes:
    place = topic.encode()
    return b"".join((_PURPOSE, struct.pack("<H", len(place)), place, body))


def _parts(payload: bytes) -> tuple[bytes, bytes, bytes]:
    if payload[0] != SIGNED_MARK:
        raise EnvelopeError("it is not signed")
    if len(payload) > _HEAD.size + LONGEST + SIGNATURE_BYTES + MAX_MESSAGE_BYTES:
        raise EnvelopeError("it is too long")
    if len(payload) < _HEAD.size:
        raise EnvelopeError("it is truncated")
    _, length = _HEAD.unpack_from(payload)
    start = _HEAD.size + length
    end = start + SIGNATURE_BYTES
    if length > LONGEST or len(payload) <= end:
        raise EnvelopeError("it is truncated")
    return payload[_HEAD.size : start], payload[start:end], payload[end:]
