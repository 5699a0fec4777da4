"""Sealing: only the holder of the key reads it, and only as what it was sealed as."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.sealing import SealError, about, key_id, seal, unseal
from federation.sizes import SEAL_BLOCK, SEAL_HEAD, SEAL_TAG, sealed_size

KEY = X25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
FACTS = ("flockwise/test", "camera-7", b"outbox-1", 7, b"ledger-1", 3, "int8")
ABOUT = about(*FACTS)
SIZES = (0, 1, 1000, SEAL_BLOCK - 1, SEAL_BLOCK, SEAL_BLOCK + 1, 3 * SEAL_BLOCK)


def some(size: int) -> bytes:
    return bytes(n * 7 % 251 for n in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_what_was_sealed_opens_again(size: int) -> None:
    payload = some(size)
    sealed = seal(payload, PUBLIC, ABOUT)
    assert len(sealed) == sealed_size(size)
    assert unseal(sealed, KEY, ABOUT) == payload


def test_nothing_of_the_payload_is_seen() -> None:
    payload = b"a secret of this device. " * 10_000
    sealed = seal(payload, PUBLIC, ABOUT)
    assert b"secret" not in sealed
    # Two sealings of one payload have no block in common.
    assert not {sealed[n : n + 16] for n in range(0, len(sealed) - 16, 16)} & {
        other[n : n + 16]
        for other in [seal(payload, PUBLIC, ABOUT)]
        for n in range(0, len(other) - 16, 16)
    }


@settings(max_examples=60)
@given(st.sampled_from(SIZES[1:]), st.data())
def test_no_byte_of_it_can_be_altered(size: int, data: st.DataObject) -> None:
    sealed = bytearray(seal(some(size), PUBLIC, ABOUT))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        unseal(bytes(sealed), KEY, ABOUT)


def test_blocks_cannot_be_dropped_doubled_or_swapped() -> None:
    whole = SEAL_BLOCK + SEAL_TAG
    sealed = seal(some(3 * SEAL_BLOCK), PUBLIC, ABOUT)
    head, blocks = (
        sealed[:SEAL_HEAD],
        [sealed[start : start + whole] for start in range(SEAL_HEAD, len(sealed), whole)],
    )
    one, two, three = blocks
    for forged in (
        [one, two],
        [one],
        [],
        [two, three],
        [one, one, two, three],
        [two, one, three],
        [one, three, two],
        [one, two, three, three],
    ):
        with pytest.raises(SealError):
            unseal(head + b"".join(forged), KEY, ABOUT)


@pytest.mark.parametrize(
    ("place", "other"),
    [
        (0, "flockwise/other"),
        (1, "camera-8"),
        (2, b"outbox-2"),
        (3, 8),
        (4, b"ledger-2"),
        (5, 4),
        (6, "float32"),
    ],
)
def test_it_opens_only_as_what_it_was_sealed_as(place: int, other: object) -> None:
    facts = [*FACTS]
    facts[place] = other  # type: ignore[call-overload]
    with pytest.raises(SealError, match="does not open"):
        unseal(seal(some(100), PUBLIC, ABOUT), KEY, about(*facts))  # type: ignore[arg-type]


def test_another_key_does_not_open_it() -> None:
    with pytest.raises(SealError):
        unseal(seal(some(100), PUBLIC, ABOUT), X25519PrivateKey.generate(), ABOUT)


@given(st.binary(max_size=500))
def test_arbitrary_bytes_do_not_open(junk: bytes) -> None:
    with pytest.raises(SealError):
        unseal(junk, KEY, ABOUT)


@pytest.mark.parametrize("key", [b"", bytes(31), bytes(33)])
def test_what_is_no_key_is_told(key: bytes) -> None:
    with pytest.raises(SealError, match="no X25519 public key"):
        seal(b"x", key, ABOUT)


def test_a_key_has_a_name_of_its_own() -> None:
    names = {key_id(X25519PrivateKey.generate().public_key().public_bytes_raw()) for _ in range(9)}
    assert len(names) == 9
    assert {len(name) for name in names} == {8}
