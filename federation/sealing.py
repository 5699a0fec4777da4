"""Sealing: the payload of an update is for the coordinator alone, from the device to its spool.

HPKE in base mode (RFC 9180: X25519, HKDF-SHA256, ChaCha20-Poly1305) carries a fresh key; the
payload follows in blocks under that key, each authenticated with its number and whether it is the
last one (STREAM: Hoang, Reyhanitabar, Rogaway and Vizar 2015, eprint 2015/189), so that none can
be altered, dropped, doubled or moved. What the payload is about (federation, device, sequence
number, base version and more) goes into HPKE's `info`: elsewhere it does not open.

    HPKE encapsulation and key, 80 bytes | blocks of 64 KiB, each with a tag of 16 bytes
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from io import BytesIO
from os import urandom
from typing import BinaryIO

import msgpack
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from federation.sizes import SEAL_BLOCK, SEAL_HEAD, SEAL_TAG

_PURPOSE = "flockwise update"
_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.CHACHA20_POLY1305)
KEY_ID_BYTES = 8


class SealError(ValueError):
    """A payload that was not sealed for this key, about this, or was altered since."""


def key_id(public: bytes) -> bytes:
    """8 bytes that name a coordinator's X25519 public key."""
    return hashlib.blake2b(public, digest_size=KEY_ID_BYTES).digest()


def about(
    federation: str,
    device: str,
    outbox: bytes,
    sequence: int,
    ledger: bytes,
    base_version: int,
    codec: str,
) -> bytes:
    """All that a sealed update is bound to, as one unambiguous string of bytes."""
    facts = [_PURPOSE, federation, device, outbox, sequence, ledger, base_version, codec]
    packed: bytes = msgpack.packb(facts)
    return packed


def seal(payload: bytes, public: bytes, about: bytes) -> bytes:
    """The payload, for the holder of one key alone; `sizes.sealed_size(len(payload))` bytes.

    Args:
        public: the coordinator's X25519 public key, 32 bytes.
        about: what opening it has to name; see `about`.

    Raises:
        SealError: `public` is no such key.
    """
    key = urandom(32)
    try:
        head = _SUITE.encrypt(key, X25519PublicKey.from_public_bytes(public), info=about)
    except ValueError:
        raise SealError("the coordinator's key is no X25519 public key") from None
    cipher = ChaCha20Poly1305(key)
    view = memoryview(payload)
    starts = range(0, len(view), SEAL_BLOCK) or range(1)
    blocks = (
        cipher.encrypt(
            _nonce(number, start + SEAL_BLOCK >= len(view)), view[start : start + SEAL_BLOCK], None
        )
        for number, start in enumerate(starts)
    )
    return b"".join((head, *blocks))


def unseal(sealed: bytes, private: X25519PrivateKey, about: bytes) -> bytes:
    """What was sealed.

    Raises:
        SealError: it was sealed for another key, about something else, or altered.
    """
    return b"".join(unsealed(BytesIO(sealed), private, about))


def unsealed(sealed: BinaryIO, private: X25519PrivateKey, about: bytes) -> Iterator[bytes]:
    """What was sealed, block by block; only the end tells that nothing of it is missing.

    What was read is always ahead of what was given, so it may be written over what was sealed.

    Raises:
        SealError: it was sealed for another key, about something else, or altered.
    """
    head, block = sealed.read(SEAL_HEAD), sealed.read(SEAL_BLOCK + SEAL_TAG)
    if len(block) < SEAL_TAG:
        raise SealError(f"{len(head) + len(block)} bytes are too few for what is sealed")
    try:
        cipher = ChaCha20Poly1305(_SUITE.decrypt(head, private, info=about))
        number = 0
        while block:
            following = sealed.read(SEAL_BLOCK + SEAL_TAG)
            yield cipher.decrypt(_nonce(number, not following), block, None)
            block, number = following, number + 1
    except (InvalidTag, ValueError):
        raise SealError(
            "it does not open: sealed for another key or place, or altered since"
        ) from None


def _nonce(number: int, is_last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([is_last])
