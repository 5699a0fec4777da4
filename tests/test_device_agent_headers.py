"""What a header means to a device: whether it is news, and whose word it is."""

from __future__ import annotations

import pytest

from config.settings import TrainingPlan
from device_agent.headers import fault_of, is_news, message_of
from federation.machine import Received
from federation.messages import MessageError, encode
from tests.specimens import TOPICS, a_header

KNOWN = a_header(version=5, boot=2, founded=100, signer=1)


def test_a_header_is_news_to_one_who_knows_none() -> None:
    assert is_news(KNOWN, None, None)


def test_the_same_again_is_none() -> None:
    assert not is_news(KNOWN, KNOWN, None)


def test_after_a_restart_what_was_seen_is_news_and_what_came_before_it_is_not() -> None:
    assert is_news(KNOWN, None, KNOWN)
    assert not is_news(a_header(version=4, boot=2, founded=100, signer=1), None, KNOWN)


def test_a_former_ledger_is_no_news() -> None:
    other = {"ledger": b"ledger-2", "signer": 1}
    assert is_news(a_header(founded=101, **other), KNOWN, None)
    assert not is_news(a_header(founded=99, **other), KNOWN, None)


def test_what_was_said_with_a_former_key_counts_for_nothing_however_late_it_calls_itself() -> None:
    forged = a_header(version=2**40, boot=2**40, founded=2**40, signer=1)
    genuine = a_header(version=6, boot=3, founded=100, signer=2)
    assert is_news(genuine, forged, forged)
    assert not is_news(forged, genuine, None)


def test_a_header_names_the_signer_that_signed_it() -> None:
    payload = encode(a_header(signer=2))
    assert message_of(Received(TOPICS.model, payload, epoch=2))
    assert message_of(Received(TOPICS.model, payload))  # where nothing is signed
    with pytest.raises(MessageError, match="another signer than its own"):
        message_of(Received(TOPICS.model, payload, epoch=1))


def test_a_codec_for_updates_that_is_unknown_here_is_named() -> None:
    unknown = TrainingPlan().model_copy(update={"codec": "zip\n"})
    fault = "its updates are to be encoded as 'zip\\n', which is unknown here"
    assert fault_of(a_header(bytes(8), plan=unknown), "task") == fault


@pytest.mark.parametrize("codec", ["zip", "int8+zlib"])
def test_a_model_is_in_a_codec_whose_size_is_known(codec: str) -> None:
    assert str(fault_of(a_header(bytes(8), codec=codec), "task")).startswith(
        ("unknown codec 'zip'", "int8+zlib has no size")
    )


def test_a_model_may_come_in_half_the_bytes() -> None:
    two = a_header(bytes(8)).layout
    assert fault_of(a_header(bytes(4), codec="bf16", layout=two), "task") is None


def test_a_device_that_seals_refuses_a_version_without_a_key() -> None:
    header = a_header(bytes(8))
    assert fault_of(header, "task") is None
    assert fault_of(header, "task", sealed=True) == "it names no key to seal updates to"
    assert fault_of(a_header(bytes(8), seal=bytes(32)), "task", sealed=True) is None
