"""A signed session keeps the contract of the session that it wraps.

The tests are those of `tests/test_federation_session_contract.py`, on sessions in memory; who
believes whom is simple here, as their topics are nobody's. That messages grow by their envelopes
is why `traffic` is not among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from federation.envelope import EnvelopeError
from federation.loopback import LoopbackSession
from federation.machine import Publish, Received
from federation.session import Identity, Session
from federation.signed_session import SignedSession
from tests.test_federation_session_contract import (  # noqa: F401
    InMemory,
    Net,
    Party,
    test_a_broken_connection_leaves_the_will_that_bears_its_number,
    test_a_broken_link_is_told_and_mends_itself,
    test_a_dynamic_subscription_brings_what_comes_later,
    test_a_dynamic_subscription_brings_what_is_retained,
    test_a_filter_with_a_plus_hears_every_device,
    test_a_new_connection_has_a_greater_incarnation,
    test_a_topic_that_was_given_back_can_be_had_again,
    test_a_topic_that_was_given_back_is_heard_no_more,
    test_linked_is_told_once_with_the_incarnation_of_the_first_connection,
    test_no_dynamic_subscription_survives_a_new_connection,
    test_nobody_hears_what_is_on_other_topics,
    test_subscribing_without_a_link_does_nothing,
    test_the_largest_chunk_passes,
    test_the_newer_of_two_with_one_id_puts_the_older_out,
    test_to_stop_twice_or_before_the_start_is_harmless,
    test_what_is_published_while_the_link_is_down_is_dropped_for_good,
    test_what_one_publishes_arrives_once_and_in_order,
    test_what_one_publishes_the_other_receives,
    test_what_was_published_leaves_in_the_end,
    test_what_was_retained_comes_with_a_standing_subscription,
    test_who_is_there_already_hears_a_retained_message_as_a_live_one,
    test_who_is_told_linked_can_be_reached,
    test_who_stopped_neither_speaks_nor_hears_nor_comes_back,
    test_who_stops_is_heard_with_the_farewell_and_not_with_the_will,
    test_who_stops_without_a_word_leaves_no_will_either,
)

SEAL = b"signed: "


class Signer:
    def sign(self, message: Publish) -> Publish:
        return replace(message, payload=SEAL + message.payload)


class Verifier:
    def read(self, topic: str, payload: bytes) -> tuple[bytes, int | None]:
        if not payload.startswith(SEAL):
            raise EnvelopeError("it is not signed")
        return payload.removeprefix(SEAL), None


class Signed(InMemory):
    def __init__(self) -> None:
        super().__init__()
        self.wires: dict[Session, LoopbackSession] = {}

    def session(self, identity: Identity, inbox: Callable[[Any], None]) -> Session:
        made: list[LoopbackSession] = []

        def connect(identity: Identity, inbox: Callable[[Any], None]) -> LoopbackSession:
            made.append(LoopbackSession(self.broker, identity, inbox))
            return made[0]

        signer: Any = Signer()
        verifier: Any = Verifier()
        session = SignedSession(connect, identity, inbox, signer, verifier)
        (self.wires[session],) = made
        return session

    def cut(self, party: Party) -> None:
        self.wires[party.session].cut("the line was cut")


@pytest.fixture
def net() -> Iterator[Net]:
    made = Signed()
    yield made
    made.close()


def test_what_nobody_signed_is_counted_and_not_heard(net: Signed) -> None:
    party = net.join("party", "news")
    wire = net.wires[party.session]
    for _ in range(3):
        wire.receive(Received(net.root + "news", b"a stranger's"), wire.connection)
    party.publish("news", b"mark")
    party.hear(b"mark")
    assert party.payloads == [b"mark"]
    assert party.session.disbelieved == {"it is not signed": 3}


def test_it_tells_what_the_session_that_it_wraps_tells(net: Signed) -> None:
    party = net.join("party", "news")
    party.publish("news", b"12345")
    party.hear(b"12345")
    size = len(SEAL) + 5
    assert party.session.traffic == (size, size)
    assert party.session.backlog_bytes == 0


def test_not_more_than_a_line_in_a_while_is_told(
    net: Signed, caplog: pytest.LogCaptureFixture
) -> None:
    party = net.join("party", "news")
    wire = net.wires[party.session]
    for _ in range(50):
        wire.receive(Received(net.root + "news", b"a stranger's"), wire.connection)
    (line,) = caplog.records
    assert line.message == "message not believed"
