"""Who is invited to a version: each device computes it from the header, so it costs no message."""

from __future__ import annotations

import hashlib


def is_invited(device: str, version: int, draw: int, fraction: float) -> bool:
    """Whether `device` takes part in `version`.

    A hash of version, draw and device id, uniform in [0, 1), is compared with `fraction` in (0, 1].
    A new draw makes a new choice for the same version.
    """
    text = f"{version} {draw} {device}".encode()
    hashed = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return hashed < fraction * 2**64
