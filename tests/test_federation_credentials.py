"""Credentials: what the authority signed is believed, and nothing else is."""

from __future__ import annotations

import msgpack
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from federation.credentials import LONGEST, Credential, CredentialError, issue, verified

AUTHORITY = Ed25519PrivateKey.from_private_bytes(bytes(32))
PUBLIC = AUTHORITY.public_key().public_bytes_raw()
ONE = Credential(federation="flockwise/test", subject="camera-7", epoch=3, key=bytes(range(32)))
SIGNED = issue(AUTHORITY, ONE)


def test_what_the_authority_signed_is_read_again() -> None:
    assert verified(PUBLIC, SIGNED) == ONE


def test_the_longest_credential_fits() -> None:
    longest = Credential(federation="x" * 130, subject="y" * 40, epoch=2**53 - 1, key=bytes(32))
    assert len(issue(AUTHORITY, longest)) <= LONGEST
    assert verified(PUBLIC, issue(AUTHORITY, longest)) == longest


def test_another_authority_is_not_believed() -> None:
    other = Ed25519PrivateKey.generate()
    with pytest.raises(CredentialError, match="not of this federation's authority"):
        verified(PUBLIC, issue(other, ONE))


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_altered(place: int, difference: int) -> None:
    altered = bytearray(SIGNED)
    altered[place] ^= difference
    with pytest.raises(CredentialError):
        verified(PUBLIC, bytes(altered))


@given(st.binary(max_size=600))
def test_arbitrary_bytes_are_no_credential(junk: bytes) -> None:
    with pytest.raises(CredentialError):
        verified(PUBLIC, junk)


@given(st.binary(max_size=300))
def test_what_the_authority_signed_for_another_purpose_is_none(body: bytes) -> None:
    with pytest.raises(CredentialError):
        verified(PUBLIC, AUTHORITY.sign(body) + body)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        [],
        {**ONE.model_dump(), "more": 1},
        {**ONE.model_dump(), "subject": "No Id"},
        {**ONE.model_dump(), "key": b"short"},
        {**ONE.model_dump(), "epoch": -1},
        {**ONE.model_dump(), "epoch": "1"},
    ],
)
def test_a_signed_map_that_holds_something_else_is_none(fields: object) -> None:
    body = msgpack.packb(fields)
    signed = AUTHORITY.sign(b"flockwise credential\0" + body) + body
    with pytest.raises(CredentialError, match="does not hold"):
        verified(PUBLIC, signed)
