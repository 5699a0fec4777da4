"""How one version gets onto a device: from the broker's cache, else from the coordinator."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from config.settings import Transfer
from device_agent.fetching import Fetch
from device_agent.vocabulary import StoreChunk
from federation.machine import Subscribe, Unsubscribe
from federation.messages import Chunk, Request
from tests.specimens import TOPICS, a_header, a_payload, at, told

PAYLOAD = a_payload(4096)  # four chunks
HEADER = a_header(PAYLOAD, version=7, slot=1)
UP = TOPICS.up("one")


def fetch(*held: int) -> Fetch:
    transfer = Transfer(chunk_bytes=1024, max_window=2, patience_s=2.0)
    return Fetch(HEADER, held, TOPICS, "one", transfer)


def topic(index: int) -> str:
    return TOPICS.model_chunk(1, index)


def piece(index: int, version: int = 7) -> Chunk:
    return Chunk(version, index, PAYLOAD[1024 * index : 1024 * (index + 1)])


def requests(effects: Any) -> list[tuple[int, ...]]:
    return [m.chunks for m in told(effects, UP) if isinstance(m, Request) and m.version == 7]


def test_a_subscription_is_the_request_a_window_at_a_time() -> None:
    one = fetch()
    assert one.advance(at(0)) == [Subscribe((topic(0), topic(1)))]
    assert one.advance(at(0)) == [], "the window is full"


def test_what_is_in_the_store_is_not_fetched() -> None:
    assert fetch(0, 1, 3).advance(at(0)) == [Subscribe((topic(2),))]
    assert fetch(0, 1, 2, 3).complete
    assert fetch(0, 1, 2, 3).advance(at(0)) == []


def test_a_chunk_is_stored_and_its_subscription_given_back_as_the_next_is_asked_for() -> None:
    one = fetch()
    one.advance(at(0))
    assert one.chunk(piece(1), 1, at(0.1)) == [StoreChunk(HEADER, 1, piece(1).data)]
    assert one.advance(at(0.1)) == [Unsubscribe((topic(1),)), Subscribe((topic(2),))]
    assert one.fraction == 0.25


def test_a_whole_version_leaves_no_subscription_behind() -> None:
    one = fetch()
    open_topics: set[str] = set()

    def carry_out(effects: Any) -> None:
        for effect in effects:
            if isinstance(effect, Subscribe):
                open_topics.update(effect.topics)
            if isinstance(effect, Unsubscribe):
                open_topics.difference_update(effect.topics)

    for index in range(4):
        carry_out(one.advance(at(0)))
        carry_out(one.chunk(piece(index), index, at(0)) or [])
    assert one.complete
    carry_out(one.close())
    assert open_topics == set()
    assert one.close() == []
    assert one.due_s == inf


@pytest.mark.parametrize(
    ("chunk", "index"),
    [
        (Chunk(7, 0, b"x" * 1024), 0),
        (Chunk(7, 0, PAYLOAD[:1000]), 0),
        (piece(1), 0),
        (piece(0, version=6), 0),
        (Chunk(7, 9, b"x"), 9),
    ],
    ids=["altered", "cut", "on another's topic", "of an older version", "beyond the end"],
)
def test_a_chunk_that_is_not_the_one_missing_is_not_believed(chunk: Chunk, index: int) -> None:
    one = fetch()
    one.advance(at(0))
    due_s = one.due_s
    assert one.chunk(chunk, index, at(1)) is None
    assert (one.due_s, one.requests, one.fraction) == (due_s, 0, 0)


def test_a_chunk_that_comes_twice_is_stored_once() -> None:
    one = fetch()
    one.advance(at(0))
    assert one.chunk(piece(0), 0, at(0)) is not None
    assert one.chunk(piece(0), 0, at(0)) is None


def test_a_chunk_that_nobody_asked_for_is_welcome_if_it_is_missing() -> None:
    one = fetch()
    assert one.chunk(piece(3), 3, at(0)) == [StoreChunk(HEADER, 3, piece(3).data)]


def test_what_the_broker_does_not_deliver_is_requested_from_the_coordinator() -> None:
    one = fetch()
    one.advance(at(0))
    one.chunk(piece(0), 0, at(0.5))
    assert one.due_s == 2.5, "patience begins again with each arrival"
    assert one.hurry(at(2.4)) == []
    effects = one.hurry(at(2.5))
    assert effects[0] == Unsubscribe((topic(0), topic(1))), "it will not come from there"
    assert requests(effects) == [(1,)]
    assert one.chunk(piece(1), 1, at(2.6)) == [StoreChunk(HEADER, 1, piece(1).data)]
    assert requests(one.advance(at(2.6))) == [(2, 3)], "the cache is asked no more"


def test_requests_in_vain_are_repeated_ever_more_patiently() -> None:
    one = fetch()
    one.advance(at(0))
    times = []
    for _ in range(7):
        now_s = one.due_s
        assert requests(one.hurry(at(now_s))) == [(0,)]
        times.append(now_s)
    # Waits of 2, 4, 8, 16 and 32 seconds, then 60 and no more.
    assert times == [2, 6, 14, 30, 62, 122, 182]
    assert one.requests == 7


def test_a_chunk_that_was_asked_for_once_ends_the_backoff() -> None:
    one = fetch()
    one.advance(at(0))
    one.hurry(at(2))
    one.hurry(at(6))
    one.chunk(piece(1), 1, at(6.5))
    assert one.requests == 0
    assert one.due_s == 6.5 + 3 * 6.5, "patience is a few times what a chunk takes"


def test_a_chunk_that_was_asked_for_twice_does_not_end_the_backoff() -> None:
    one = fetch()
    one.advance(at(0))
    one.hurry(at(2))
    one.hurry(at(6))
    one.chunk(piece(0), 0, at(6.1))
    assert one.requests == 0
    assert one.due_s == 6.1 + 8


def test_a_slot_that_holds_a_newer_version_sends_the_device_to_the_coordinator() -> None:
    one = fetch()
    one.advance(at(0))
    effects = one.chunk(piece(0, version=9), 0, at(0.1)) or []
    assert effects[0] == Unsubscribe((topic(0),))
    assert requests(effects) == [(0,)]
    assert one.chunk(piece(0, version=9), 0, at(0.2)) is None, "it is asked for elsewhere by now"


def test_a_new_link_has_no_subscriptions_and_begins_with_one_chunk() -> None:
    one = fetch()
    one.advance(at(0))
    one.relink()
    assert one.due_s == inf
    assert one.advance(at(5)) == [Subscribe((topic(0),))]


def test_a_version_that_is_given_up_gives_its_subscriptions_back() -> None:
    one = fetch()
    one.advance(at(0))
    assert one.close() == [Unsubscribe((topic(0), topic(1)))]
    assert one.close() == []
