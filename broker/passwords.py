"""Passwords, for brokers without client certificates: random, and kept as mosquitto keeps them."""

from __future__ import annotations

import base64
import hashlib
import os
import secrets

_ITERATIONS = 101
_SALT_BYTES = 12


def new_password() -> str:
    """A password that nobody guesses: 24 letters, digits, - and _."""
    return secrets.token_urlsafe(18)


def hashed(password: str, salt: bytes | None = None) -> str:
    """As it stands in mosquitto's password file after the name: `$7$101$salt$hash`.

    PBKDF2 with SHA-512. 101 rounds are few, and enough for 144 random bits.
    """
    salt = os.urandom(_SALT_BYTES) if salt is None else salt
    digest = hashlib.pbkdf2_hmac("sha512", password.encode(), salt, _ITERATIONS)
    return f"$7${_ITERATIONS}${_text(salt)}${_text(digest)}"


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
