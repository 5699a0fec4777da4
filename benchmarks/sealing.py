"""What signing and sealing cost: time, bytes and memory; `python -m benchmarks.sealing`.

One process, one thread. Sealing and opening are compared in the same run with BLAKE2b over the same
bytes, which every payload goes through in any case, and with int8 encoding, which makes it.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable
from os import urandom
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.machine import machine
from federation.compression import encode
from federation.credentials import Credential, issue
from federation.envelope import Signer, Verifier
from federation.machine import Publish
from federation.sealing import about, seal, unseal
from federation.sizes import sealed_size
from federation.topics import Topics
from federation.transfer import manifest_of

RESULTS = Path(__file__).parent / "results" / "sealing.jsonl"
SIZES = (156_170 + 4 * 611, 2_500_000, 25_000_000)
REPEATS = 15
CHUNK_BYTES = 122_880


def seconds(work: Callable[[], object], repeats: int = REPEATS) -> list[float]:
    """How long each of some runs took; the first one, that warms up, left out."""
    took = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return took[1:]


def rows() -> list[dict[str, object]]:
    """Every figure, with median and spread in milliseconds."""
    found: list[dict[str, object]] = []

    def add(what: str, size: int, took: list[float], bare: int = 0) -> None:
        low, *_, high = sorted(took)
        row = {"what": what, "bytes": size, "more_bytes": bare}
        median = statistics.median(took)
        found.append({**row, "ms": 1000 * median, "from_ms": 1000 * low, "to_ms": 1000 * high})

    private = X25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    what = about("flockwise/default", "camera-7", bytes(8), 7, bytes(8), 3, "int8")
    for size in SIZES:
        payload = urandom(size)
        vector = np.frombuffer(urandom(4 * (size // 4)), np.uint8).astype(np.float32)
        sealed = seal(payload, public, what)
        more = sealed_size(size) - size
        add("seal", size, seconds(lambda: seal(payload, public, what)), more)  # noqa: B023
        add("open", size, seconds(lambda: unseal(sealed, private, what)))  # noqa: B023
        add("digest (BLAKE2b)", size, seconds(lambda: manifest_of(payload, CHUNK_BYTES)))  # noqa: B023
        add("encode int8", size, seconds(lambda: encode("int8", vector)))  # noqa: B023
    _add_messages(add)
    return found


def _add_messages(add: Callable[..., None]) -> None:
    authority, key = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    topics = Topics("flockwise", "default")
    credential = Credential(
        federation="flockwise/default",
        subject="camera-7",
        epoch=1,
        key=key.public_key().public_bytes_raw(),
    )
    signer = Signer(key, issue(authority, credential))
    verifier = Verifier(authority.public_key().public_bytes_raw(), topics, {})
    message = Publish(topics.up("camera-7"), urandom(800).replace(b"\xc1", b"x"))
    signed = signer.sign(message)
    more = len(signed.payload) - len(message.payload)
    add("sign a message", len(message.payload), seconds(lambda: signer.sign(message), 500), more)
    opened = seconds(lambda: verifier.read(signed.topic, signed.payload), 500)
    add("believe a message", len(message.payload), opened)


def main() -> None:
    """Print the table and keep the rows."""
    about_machine = machine()
    print(json.dumps(about_machine))
    print(f"{'what':<20}{'bytes':>12}{'median ms':>12}{'from':>9}{'to':>9}{'MB/s':>8}  more bytes")
    with RESULTS.open("w", encoding="utf-8") as file:
        for row in rows():
            file.write(json.dumps({**row, **about_machine}) + "\n")
            speed = row["bytes"] / row["ms"] / 1000  # type: ignore[operator]
            print(
                f"{row['what']:<20}{row['bytes']:>12,}{row['ms']:>12.3f}{row['from_ms']:>9.3f}"
                f"{row['to_ms']:>9.3f}{speed:>8.0f}  {row['more_bytes'] or ''}"
            )


if __name__ == "__main__":
    main()
