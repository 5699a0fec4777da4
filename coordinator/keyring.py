"""The keys to which devices seal their updates: the newest is told, the older ones still open.

A new one needs nobody's consent and no visit to a device: the next header names it, signed. What
was sealed to an older one, on a device that was away, still opens.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from config.failures import ExitCode, Failure
from federation.certificates import UNREADABLE_KEY
from federation.files import replace_file
from federation.messages import Offer
from federation.sealing import SealError, about, key_id, unsealed

SEALING = "sealing"


class Keyring:
    """The X25519 keys of a coordinator, each in a file `<number>.pem`; the last is the current."""

    def __init__(self, folder: Path, federation: str) -> None:
        """Read the keys; make the first one in an empty folder.

        Args:
            federation: prefix and name: `flockwise/default`.

        Raises:
            Failure: a file is no such key.
            OSError: the disk is full.
        """
        self._folder = folder
        self._federation = federation
        self._keys: dict[bytes, X25519PrivateKey] = {}
        self._read: set[str] = set()
        self.current = b""
        self.refresh()
        if not self.current:
            add_key(folder)
            self.refresh()

    @property
    def names(self) -> frozenset[bytes]:
        """The names of all keys that open something."""
        return frozenset(self._keys)

    def refresh(self) -> bytes:
        """Take up keys that were added meanwhile; the current public key, 32 bytes."""
        for path in _files(self._folder):
            if path.name not in self._read:
                key = _private_key(path)
                self.current = key.public_key().public_bytes_raw()
                self._keys[key_id(self.current)] = key
                self._read.add(path.name)
        return self.current

    def unseal(self, sealed: BinaryIO, device: str, offer: Offer) -> Iterator[bytes] | None:
        """The payload of an offered update, block by block as `sealing.unsealed` gives it.

        Raises:
            SealError: it does not open: for another key, about another update, or altered.
        """
        key = self._keys.get(offer.seal)
        if key is None:
            raise SealError("it is sealed for a key that this coordinator does not have")
        what = about(
            self._federation,
            device,
            offer.outbox,
            offer.sequence,
            offer.ledger,
            offer.base_version,
            offer.codec,
        )
        return unsealed(sealed, key, what)


class NoKeyring:
    """In the place of a keyring, where nothing is sealed."""

    names: frozenset[bytes] = frozenset()

    def refresh(self) -> bytes:
        """No key."""
        return b""

    def unseal(self, payload: BinaryIO, _device: str, _offer: Offer) -> Iterator[bytes] | None:
        """None: the payload is as it came."""
        return None


def add_key(folder: Path) -> bytes:
    """Make a new current key, durably; its name."""
    numbers = [int(path.stem) for path in _files(folder)]
    key = X25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    replace_file(folder / f"{max(numbers, default=0) + 1:06}.pem", pem, private=True)
    return key_id(key.public_key().public_bytes_raw())


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*.pem"))


def _private_key(path: Path) -> X25519PrivateKey:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, *UNREADABLE_KEY) as error:
        raise Failure(ExitCode.CONFIG, f"sealing key {path} cannot be used: {error}") from None
    if not isinstance(key, X25519PrivateKey):
        raise Failure(ExitCode.CONFIG, f"sealing key {path} is no X25519 key")
    return key
