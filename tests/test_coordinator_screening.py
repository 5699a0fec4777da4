"""Screening: what is complete is opened, decoded and measured before it is believed."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from coordinator.keyring import Keyring, NoKeyring, add_key
from coordinator.screening import LARGEST_NORM, norm_of, screen
from coordinator.spool import Spool
from coordinator.vocabulary import Screened
from federation.compression import RANGE, decode, encode, unpacked
from federation.layout import Layout
from federation.messages import Offer, Reason
from federation.sealing import about, key_id, seal
from federation.sizes import SEAL_BLOCK, SEAL_HEAD, SEAL_TAG
from federation.transfer import manifest_of
from tests.specimens import CHUNK_BYTES, LEDGER, OUTBOX, a_layout, an_id, an_offer

D = 1500
FEDERATION = "flockwise/test"
ID = an_id("one", 3)
DELTA = np.random.default_rng(0).standard_normal(D).astype(np.float32)
PLAIN = encode("float32", DELTA)
ABOUT = about(FEDERATION, "one", OUTBOX, 3, LEDGER, 2, "float32")


class Room:
    """A spool and a keyring on disk."""

    def __init__(self, folder: Path) -> None:
        (folder / "spool").mkdir()
        (folder / "sealing").mkdir(mode=0o700)
        self.spool = Spool(folder / "spool")
        self.keyring = Keyring(folder / "sealing", FEDERATION)

    def offer(self, payload: bytes, key: bytes | None = None) -> Offer:
        return an_offer(
            payload,
            sequence=3,
            base_version=2,
            seal=key_id(self.keyring.current if key is None else key),
        )

    def take_in(self, payload: bytes, offer: Offer) -> list[int]:
        """Write what the spool lacks of it; which chunks these were."""
        held = self.spool.open(ID, offer.payload)
        lacking = [n for n in range(offer.payload.count) if n not in held]
        for index in lacking:
            start, end = offer.payload.extent(index)
            self.spool.write(ID, start, payload[start:end])
        return lacking

    def screened(
        self,
        payload: bytes,
        offer: Offer | None = None,
        device: str = "one",
        layout: Layout | None = None,
    ) -> Screened:
        offer = offer or self.offer(payload)
        self.take_in(payload, offer)

        def unseal(sealed: BinaryIO, _: str, offer: Offer) -> Iterator[bytes] | None:
            return self.keyring.unseal(sealed, device, offer)

        return screen(self.spool, layout or a_layout(D), ID, offer, unseal)


@pytest.fixture
def room(tmp_path: Path) -> Room:
    return Room(tmp_path)


def test_what_was_sealed_lies_open_in_the_spool_once_it_was_screened(room: Room) -> None:
    screened = room.screened(seal(PLAIN, room.keyring.current, ABOUT))
    assert screened.refusal is None
    assert screened.norm == pytest.approx(float(np.linalg.norm(DELTA)))
    assert room.spool.path(ID).read_bytes() == PLAIN


def test_without_a_membership_it_is_taken_as_it_is(room: Room) -> None:
    offer = an_offer(PLAIN, sequence=3)
    room.take_in(PLAIN, offer)
    screened = screen(room.spool, a_layout(D), ID, offer, NoKeyring().unseal)
    assert screened.refusal is None
    assert room.spool.path(ID).read_bytes() == PLAIN


def test_what_was_sealed_to_an_unknown_key_is_refused(room: Room) -> None:
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    sealed = seal(PLAIN, other, ABOUT)
    screened = room.screened(sealed, room.offer(sealed, other))
    assert screened.refusal is Reason.BAD_SEAL
    assert screened.detail == "it is sealed for a key that this coordinator does not have"


def test_what_was_sealed_to_another_key_than_it_says_is_refused(room: Room) -> None:
    other = X25519PrivateKey.generate().public_key().public_bytes_raw()
    screened = room.screened(seal(PLAIN, other, ABOUT))
    assert screened.refusal is Reason.BAD_SEAL
    assert "does not open" in screened.detail


@pytest.mark.parametrize("place", [0, 40, 79, 80, 3000, -1])
def test_what_was_altered_before_it_was_offered_is_refused(room: Room, place: int) -> None:
    sealed = bytearray(seal(PLAIN, room.keyring.current, ABOUT))
    sealed[place] ^= 1
    screened = room.screened(bytes(sealed))
    assert screened.refusal is Reason.BAD_SEAL
    assert room.spool.path(ID).read_bytes() == sealed, "nothing of it was opened"


def test_what_another_device_has_sealed_is_refused(room: Room) -> None:
    screened = room.screened(seal(PLAIN, room.keyring.current, ABOUT), device="two")
    assert screened.refusal is Reason.BAD_SEAL


@pytest.mark.parametrize("payload", [PLAIN[:-4], PLAIN + bytes(4), b"", encode("int8", DELTA)])
def test_what_has_another_size_once_it_is_open_is_refused(room: Room, payload: bytes) -> None:
    screened = room.screened(seal(payload, room.keyring.current, ABOUT))
    assert screened.refusal is Reason.BAD_SHAPE


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, np.float32(LARGEST_NORM * 1.1)])
def test_what_holds_numbers_that_none_can_use_is_refused(room: Room, number: float) -> None:
    delta = DELTA.copy()
    delta[7] = number
    screened = room.screened(seal(encode("float32", delta), room.keyring.current, ABOUT))
    assert screened.refusal is Reason.NOT_FINITE
    assert screened.norm == 0.0


@pytest.mark.parametrize("codec", ["float32", "int8+zlib", "topk"])
def test_a_large_update_is_opened_block_by_block_in_its_place(room: Room, codec: str) -> None:
    d = 2 * RANGE + 100  # several blocks of the seal, and several ranges
    delta = np.random.default_rng(1).standard_normal(d).astype(np.float32)
    payload = encode(codec, delta)
    what = about(FEDERATION, "one", OUTBOX, 3, LEDGER, 2, codec)
    sealed = seal(payload, room.keyring.current, what)
    offer = room.offer(sealed).model_copy(update={"codec": codec})
    screened = room.screened(sealed, offer, layout=a_layout(d))
    assert screened.refusal is None
    assert screened.norm == norm_of(decode(codec, payload, d), d)
    assert room.spool.path(ID).read_bytes() == unpacked(codec, payload, d)


def test_what_is_cut_short_between_two_blocks_is_refused(room: Room) -> None:
    d = 2 * RANGE
    sealed = seal(bytes(4 * d), room.keyring.current, ABOUT)[: SEAL_HEAD + SEAL_BLOCK + SEAL_TAG]
    assert room.screened(sealed, layout=a_layout(d)).refusal is Reason.BAD_SEAL


@pytest.mark.parametrize("junk", [b"junk", zlib.compress(bytes(9)), bytes(100)])
def test_what_does_not_unpack_is_refused(room: Room, junk: bytes) -> None:
    offer = an_offer(junk, sequence=3, codec="int8+zlib")
    room.take_in(junk, offer)
    screened = screen(room.spool, a_layout(D), ID, offer, NoKeyring().unseal)
    assert screened.refusal is Reason.BAD_SHAPE


def test_a_crash_after_it_was_opened_costs_another_upload_and_nothing_else(room: Room) -> None:
    sealed = seal(PLAIN, room.keyring.current, ABOUT)
    offer = room.offer(sealed)
    room.screened(sealed, offer)
    # Nobody judged it: the device offers the sealed bytes again, and the open ones are none of it.
    assert room.take_in(sealed, offer) == list(range(offer.payload.count))
    assert offer.payload == manifest_of(sealed, CHUNK_BYTES)
    assert room.screened(sealed, offer).refusal is None
    assert room.spool.path(ID).read_bytes() == PLAIN


def test_what_was_sealed_to_the_former_key_still_opens(room: Room, tmp_path: Path) -> None:
    former = room.keyring.current
    sealed = seal(PLAIN, former, ABOUT)
    add_key(tmp_path / "sealing")
    assert room.keyring.refresh() != former
    assert room.screened(sealed, room.offer(sealed, former)).refusal is None
