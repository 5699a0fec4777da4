"""Envelopes: what a topic's writer said on it is believed, and nothing else is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from federation.envelope import EnvelopeError, RevokedError, Signer, Verifier
from federation.machine import Publish
from federation.messages import Chunk, decode, encode
from tests.members import Authority
from tests.specimens import TOPICS, a_header, an_offer

AUTHORITY = Authority(TOPICS)
DEVICE = AUTHORITY.signer("one")
COORDINATOR = AUTHORITY.signer()
OFFER = Publish(TOPICS.up("one"), encode(an_offer()))
HEADER = Publish(TOPICS.model, encode(a_header()), retain=True)
SIGNED = DEVICE.sign(OFFER)


def refusal(topic: str, payload: bytes, **least: int) -> str:
    with pytest.raises(EnvelopeError) as caught:
        AUTHORITY.verifier(least).read(topic, payload)[0]
    return str(caught.value)


def test_a_signed_message_is_what_it_was() -> None:
    assert AUTHORITY.verifier().read(OFFER.topic, SIGNED.payload)[0] == OFFER.payload


def test_the_rest_of_a_message_stays_as_it_was() -> None:
    signed = COORDINATOR.sign(HEADER)
    assert (signed.topic, signed.qos, signed.retain) == (HEADER.topic, 1, True)


def test_chunks_go_as_they_are() -> None:
    chunk = Publish(TOPICS.up("one"), Chunk(1, 2, b"data").encode(), qos=0)
    assert DEVICE.sign(chunk) is chunk
    assert AUTHORITY.verifier().read(chunk.topic, chunk.payload)[0] is chunk.payload


def test_a_presence_that_somebody_cleared_is_not_believed() -> None:
    assert refusal(TOPICS.device("one"), b"") == "it is empty"


@given(st.integers(0, len(SIGNED.payload) - 1), st.integers(1, 255))
def test_no_byte_of_it_can_be_altered(place: int, difference: int) -> None:
    altered = bytearray(SIGNED.payload)
    altered[place] ^= difference
    try:
        opened = AUTHORITY.verifier().read(OFFER.topic, bytes(altered))[0]
    except EnvelopeError:
        return
    # What claims to be a chunk is none that any manifest knows.
    assert place == 0
    assert opened[0] == 0xC1
    assert not isinstance(decode(opened), type(an_offer()))


@given(st.integers(0, len(SIGNED.payload) - 1))
def test_a_truncated_one_is_not_believed(length: int) -> None:
    if length:
        refusal(OFFER.topic, SIGNED.payload[:length])


@given(st.binary(min_size=1, max_size=400))
def test_arbitrary_bytes_are_not_believed(junk: bytes) -> None:
    if junk[0] != 0xC1:
        refusal(OFFER.topic, junk)
        refusal(OFFER.topic, b"\x01" + junk)


def test_a_message_without_an_envelope_is_not_believed() -> None:
    assert refusal(OFFER.topic, OFFER.payload) == "it is not signed"


def test_a_message_cannot_be_moved_to_another_topic() -> None:
    told = refusal(TOPICS.down("one"), COORDINATOR.sign(HEADER).payload)
    assert told == "the signature is wrong: altered, or moved to here"


def test_a_device_cannot_speak_for_another() -> None:
    forged = DEVICE.sign(Publish(TOPICS.up("two"), OFFER.payload))
    assert refusal(forged.topic, forged.payload) == "one has no right to it"


@pytest.mark.parametrize("topic", [TOPICS.model, TOPICS.coordinator, TOPICS.down("one")])
def test_a_device_cannot_speak_for_the_coordinator(topic: str) -> None:
    forged = DEVICE.sign(Publish(topic, HEADER.payload))
    assert refusal(topic, forged.payload) == "one has no right to it"


def test_the_coordinator_cannot_speak_for_a_device() -> None:
    forged = COORDINATOR.sign(OFFER)
    assert refusal(OFFER.topic, forged.payload) == "the coordinator has no right to it"


def test_another_authority_is_not_believed() -> None:
    forged = Authority(TOPICS).signer("one").sign(OFFER)
    assert "authority" in refusal(OFFER.topic, forged.payload)


def test_another_one_s_credential_does_not_help() -> None:
    other = AUTHORITY.signer("two")
    forged = Signer(other.key, DEVICE.credential).sign(OFFER)
    assert refusal(OFFER.topic, forged.payload).startswith("the signature is wrong")


def test_a_credential_of_another_federation_is_not_believed() -> None:
    elsewhere = Authority(type(TOPICS)("flockwise", "elsewhere"))
    elsewhere.key, elsewhere.public = AUTHORITY.key, AUTHORITY.public
    forged = elsewhere.signer("one").sign(OFFER)
    assert "of the federation flockwise/elsewhere" in refusal(OFFER.topic, forged.payload)


def test_an_earlier_credential_is_not_believed_after_a_later_one() -> None:
    verifier = AUTHORITY.verifier()
    later = AUTHORITY.signer("one", epoch=2).sign(OFFER)
    assert verifier.read(OFFER.topic, SIGNED.payload)[0]
    assert verifier.read(OFFER.topic, later.payload)[0]
    with pytest.raises(EnvelopeError, match="replaced or revoked"):
        verifier.read(OFFER.topic, SIGNED.payload)[0]


def test_a_later_credential_that_was_only_seen_takes_nothing_away() -> None:
    verifier = AUTHORITY.verifier()
    later = AUTHORITY.signer("one", epoch=2)
    shown = Signer(DEVICE.key, later.credential).sign(OFFER)  # without its key
    with pytest.raises(EnvelopeError):
        verifier.read(OFFER.topic, shown.payload)[0]
    assert verifier.read(OFFER.topic, SIGNED.payload)[0]


def test_a_revoked_credential_is_not_believed() -> None:
    assert refusal(OFFER.topic, SIGNED.payload, one=2) == "the credential was replaced or revoked"


def test_of_a_revoked_credential_it_is_told_whether_it_was_the_last_that_was_believed() -> None:
    least = {"one": 0}
    verifier = Verifier(AUTHORITY.public, TOPICS, {}, lambda: least)
    assert verifier.read(OFFER.topic, SIGNED.payload)[0]
    least["one"] = 2
    with pytest.raises(RevokedError) as caught:
        verifier.read(OFFER.topic, SIGNED.payload)[0]
    assert caught.value.was_last
    assert verifier.read(OFFER.topic, AUTHORITY.signer("one", epoch=2).sign(OFFER).payload)[0]
    with pytest.raises(RevokedError) as caught:
        verifier.read(OFFER.topic, SIGNED.payload)[0]
    assert not caught.value.was_last
