"""Every objection to an offer, and its word for the device."""

from __future__ import annotations

from typing import Any

import pytest

from coordinator.admission import objection
from federation.messages import Reason
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
