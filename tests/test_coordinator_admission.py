"""Every objection to an offer, and its word for the device."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.admission import objection
from federation.messages import Reason
from federation.sizes import PLAIN_CODECS, encoded_size, sealed_size, size_bounds
from tests.specimens import LEDGER, a_payload, a_version, an_offer

# Version 7 is current, of 300 elements: 1,200 bytes in float32, 308 in int8.
CURRENT = a_version(7, a_payload(1200))


def object_to(next_version: int = 7, max_staleness: int = 3, **fields: Any) -> Any:
    offer = an_offer(**{"payload": a_payload(1200), "base_version": 7, **fields})
    return objection(offer, LEDGER, CURRENT, next_version, max_staleness)


def test_an_update_on_the_current_version_is_welcome() -> None:
    assert object_to() is None


def test_a_compressed_update_is_welcome() -> None:
    assert object_to(codec="int8", payload=a_payload(308)) is None


def test_a_codec_that_is_not_the_one_of_the_plan_is_welcome() -> None:
    """The plan may have been changed while the update was made."""
    for codec in PLAIN_CODECS:
        assert object_to(codec=codec, payload=a_payload(encoded_size(codec, 300))) is None


def test_an_update_that_was_compressed_further_may_be_of_any_size_up_to_the_most() -> None:
    most = size_bounds("int4+zlib", 300)[1]
    for size in (1, 100, most):
        assert object_to(codec="int4+zlib", payload=a_payload(size)) is None
    reason, detail = object_to(codec="int4+zlib", payload=a_payload(most + 1))
    assert reason is Reason.BAD_SHAPE
    assert detail == f"{most + 1} bytes, but 300 elements in int4+zlib are at most {most}"


def test_sealed_it_may_be_as_much_longer_as_sealing_makes_it() -> None:
    most = sealed_size(size_bounds("int8+zlib", 300)[1])
    for size, is_welcome in ((sealed_size(1), True), (most, True), (most + 1, False), (96, False)):
        fields: Any = {"codec": "int8+zlib", "seal": b"key", "payload": a_payload(size)}
        offer = an_offer(**{"base_version": 7, **fields})
        assert (objection(offer, LEDGER, CURRENT, 7, 3, {b"key"}) is None) is is_welcome


def test_another_ledgers_version_is_not_known_here() -> None:
    assert object_to(ledger=b"ledger-2") == (Reason.UNKNOWN_BASE, "version 7 is not of this ledger")


def test_a_version_of_the_future_is_not_known_here() -> None:
    assert object_to(base_version=8) == (Reason.UNKNOWN_BASE, "version 8 is not of this ledger")


def test_an_update_may_miss_as_many_versions_as_the_settings_allow() -> None:
    assert object_to(base_version=4) is None
    reason = "missed 4 versions, at most 3 are allowed"
    assert object_to(base_version=3) == (Reason.STALE, reason)


def test_while_a_version_is_being_made_an_update_has_missed_that_one_too() -> None:
    assert object_to(base_version=5, next_version=8) is None
    assert object_to(base_version=4, next_version=8)[0] is Reason.STALE


def test_an_unknown_codec_is_named() -> None:
    reason, detail = object_to(codec="pickle")
    assert reason is Reason.BAD_SHAPE
    assert "unknown codec 'pickle'" in detail


@pytest.mark.parametrize("size", [1196, 1204, 308])
def test_a_payload_of_another_size_is_of_another_model(size: int) -> None:
    reason, detail = object_to(payload=a_payload(size))
    assert reason is Reason.BAD_SHAPE
    assert detail == f"{size} bytes, but 300 elements in float32 are 1200"
