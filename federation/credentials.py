"""Who may say something in a federation: a name and a key, signed by the federation's authority.

A credential names its subject (the id of a device, or nothing for the coordinator) and the
Ed25519 key (RFC 8032) with which that subject signs. It has no end date, as the clock of a small
device tells little; it has an epoch instead, which grows with each new credential of a subject, so
that who has seen a later one believes no earlier one.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from pydantic import BaseModel, ConfigDict, Field, ValidationError

COORDINATOR = ""
SIGNATURE_BYTES = 64
LONGEST = 512
_PURPOSE = b"flockwise credential\0"

Key = Annotated[bytes, Field(min_length=32, max_length=32)]


class CredentialError(ValueError):
    """Bytes that are no credential, or one that this authority did not sign; one line."""


class Credential(BaseModel):
    """A subject and its key.

    Attributes:
        federation: prefix and name, as in the topics: `flockwise/default`.
        subject: the id of a device, or empty for the coordinator.
        epoch: greater than that of any earlier credential of the subject.
        key: the Ed25519 public key, 32 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["credential"] = "credential"
    federation: Annotated[str, Field(min_length=1, max_length=130)]
    subject: Annotated[str, Field(pattern=r"^[a-z0-9-]{0,40}$")]
    epoch: Annotated[int, Field(ge=0, lt=2**53)]
    key: Key


def issue(authority: Ed25519PrivateKey, credential: Credential) -> bytes:
    """The credential as the authority signs it: 64 bytes of signature, then a msgpack map."""
    body: bytes = msgpack.packb(credential.model_dump())
    return authority.sign(_PURPOSE + body) + body


def verified(authority: bytes, signed: bytes) -> Credential:
    """The credential that `signed` holds.

    Args:
        authority: Ed25519 public key, 32 bytes.

    Raises:
        CredentialError: this authority has not signed it, or it is none.
    """
    if not SIGNATURE_BYTES < len(signed) <= LONGEST:
        raise CredentialError(f"a credential is not {len(signed)} bytes long")
    signature, body = signed[:SIGNATURE_BYTES], signed[SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(authority).verify(signature, _PURPOSE + body)
    except (InvalidSignature, ValueError):
        raise CredentialError("the credential is not of this federation's authority") from None
    try:
        fields = msgpack.unpackb(body, max_array_len=0, max_map_len=8)
        return Credential.model_validate(fields, strict=True)
    except (ValueError, TypeError, msgpack.UnpackException, ValidationError):
        raise CredentialError("the credential does not hold what one holds") from None
