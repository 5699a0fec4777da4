"""Uploads under way: one a device, whose missing chunks the coordinator asks for."""

from __future__ import annotations

from math import inf

import pytest

from config.settings import Transfer, UploadLimits
from coordinator.uploads import IDLE_S, MAKE_ROOM_S, PACE_S, SWEEP_S, Uploads
from coordinator.vocabulary import DropUpload, OpenUpload, Screen, Sweep, UpdateId, WriteChunk
from federation.messages import Chunk, Pace, Want
from tests.specimens import TOPICS, a_payload, an_id, an_offer, at, kinds, told

PAYLOAD = a_payload(2500)  # three chunks: 1024, 1024 and 452 bytes
OFFER = an_offer(PAYLOAD)
ONE = an_id("one")


def piece(index: int, sequence: int = 0) -> Chunk:
    return Chunk(sequence, index, PAYLOAD[1024 * index : 1024 * (index + 1)])


def some_uploads(**limits: int) -> Uploads:
    return Uploads(TOPICS, Transfer(chunk_bytes=1024, max_window=2), UploadLimits(**limits))


@pytest.fixture
def uploads() -> Uploads:
    return some_uploads()


def opened(uploads: Uploads, held: frozenset[int] = frozenset(), id: UpdateId = ONE) -> list[Want]:
    uploads.offered(id, OFFER, at())
    return [w for w in told(uploads.opened(id, held, at())) if isinstance(w, Want)]


def test_an_offer_makes_the_spool_ready_before_anything_is_wanted(uploads: Uploads) -> None:
    assert uploads.offered(ONE, OFFER, at()) == [OpenUpload(ONE, OFFER.payload)]


def test_a_want_names_as_many_chunks_as_the_window_has_room_for(uploads: Uploads) -> None:
    (want,) = opened(uploads)
    assert (want.outbox, want.sequence, want.chunks) == (ONE.outbox, 0, (0, 1))


def test_what_the_spool_holds_is_not_wanted_again(uploads: Uploads) -> None:
    (want,) = opened(uploads, frozenset({0, 1}))
    assert want.chunks == (2,)


def test_what_the_spool_holds_whole_is_screened_at_once(uploads: Uploads) -> None:
    uploads.offered(ONE, OFFER, at())
    assert uploads.opened(ONE, frozenset({0, 1, 2}), at()) == [Screen(ONE, OFFER)]


def test_a_chunk_is_written_where_it_belongs_and_makes_room_for_the_next(uploads: Uploads) -> None:
    opened(uploads)
    write, want = uploads.chunk("one", piece(1), at(0.1)) or ()
    assert write == WriteChunk(ONE, 1024, PAYLOAD[1024:2048])
    assert told([want])[0].chunks == (2,)  # type: ignore[union-attr]


def test_the_last_chunk_leads_to_screening(uploads: Uploads) -> None:
    opened(uploads)
    for index in (0, 1):
        uploads.chunk("one", piece(index), at())
    assert kinds(uploads.chunk("one", piece(2), at())) == ["WriteChunk", "Screen"]
    assert uploads.is_screening("one")


@pytest.mark.parametrize(
    "chunk",
    [
        Chunk(0, 0, b"x" * 1024),
        Chunk(0, 0, PAYLOAD[:1023]),
        Chunk(0, 1, PAYLOAD[:1024]),
        Chunk(0, 3, b"x"),
        Chunk(1, 0, PAYLOAD[:1024]),
    ],
    ids=["altered", "cut", "misplaced", "beyond the end", "of another update"],
)
def test_a_chunk_that_is_not_the_one_missing_is_not_believed(
    uploads: Uploads, chunk: Chunk
) -> None:
    opened(uploads)
    assert uploads.chunk("one", chunk, at()) is None


def test_a_chunk_that_comes_twice_is_written_once(uploads: Uploads) -> None:
    opened(uploads)
    assert uploads.chunk("one", piece(0), at()) is not None
    assert uploads.chunk("one", piece(0), at()) is None


def test_a_chunk_of_a_device_that_offered_nothing_is_not_believed(uploads: Uploads) -> None:
    opened(uploads)
    assert uploads.chunk("two", piece(0), at()) is None


def test_a_chunk_before_the_spool_is_ready_is_not_believed(uploads: Uploads) -> None:
    uploads.offered(ONE, OFFER, at())
    assert uploads.chunk("one", piece(0), at()) is None


def test_a_repeated_offer_asks_again_for_what_is_missing_one_by_one(uploads: Uploads) -> None:
    opened(uploads)
    uploads.chunk("one", piece(0), at())
    (want,) = told(uploads.offered(ONE, OFFER, at(5)))
    assert want.chunks == (1,)  # type: ignore[union-attr]


def test_a_repeated_offer_leaves_what_may_be_under_way_on_a_slow_link(uploads: Uploads) -> None:
    opened(uploads)
    uploads.chunk("one", piece(0), at(12))
    assert uploads.offered(ONE, OFFER, at(12)) != [], "the other was asked for 12 s ago"
    assert uploads.offered(ONE, OFFER, at(20)) == []
    (want,) = told(uploads.offered(ONE, OFFER, at(24)))
    assert want.chunks == (1,)  # type: ignore[union-attr]


def test_a_repeated_offer_while_the_spool_is_made_ready_asks_for_nothing(uploads: Uploads) -> None:
    uploads.offered(ONE, OFFER, at())
    assert uploads.offered(ONE, OFFER, at(5)) == []


def test_the_next_update_of_a_device_takes_the_place_of_the_last(uploads: Uploads) -> None:
    opened(uploads)
    later = an_id("one", 1)
    effects = uploads.offered(later, OFFER, at())
    assert effects == [DropUpload(ONE), OpenUpload(later, OFFER.payload)]
    assert uploads.opened(ONE, frozenset(), at()) == [], "the spool answered too late"
    assert len(uploads) == 1


def test_devices_do_not_disturb_each_other(uploads: Uploads) -> None:
    opened(uploads)
    opened(uploads, id=an_id("two"))
    assert len(uploads) == 2
    assert uploads.chunk("one", piece(0), at()) is not None
    assert uploads.chunk("two", piece(0), at()) is not None


def test_an_upload_can_be_judged_once_it_is_complete_and_until_it_is(uploads: Uploads) -> None:
    assert uploads.screened(ONE) is None
    uploads.offered(ONE, OFFER, at())
    assert uploads.screened(ONE) is None, "it is not complete"
    uploads.opened(ONE, frozenset({0, 1, 2}), at())
    assert uploads.screened(ONE) == OFFER
    uploads.forget(ONE)
    assert uploads.screened(ONE) is None
    assert len(uploads) == 0


def test_beyond_the_limit_a_device_is_put_off() -> None:
    uploads = some_uploads(at_once=1)
    opened(uploads)
    (pace,) = told(uploads.offered(an_id("two"), OFFER, at(chance=0.5)), TOPICS.down("two"))
    assert isinstance(pace, Pace)
    assert (pace.sequence, pace.wait_s) == (0, 1.5 * PACE_S)
    assert len(uploads) == 1
    assert uploads.offered(an_id("one", 1), OFFER, at())[-1] == OpenUpload(
        an_id("one", 1), OFFER.payload
    ), "a device's own place is free for its next update"


def test_beyond_the_limit_the_longest_idle_upload_makes_room() -> None:
    uploads = some_uploads(at_once=2)
    opened(uploads)
    opened(uploads, id=an_id("two"))
    uploads.chunk("one", piece(0), at(10))
    three = an_id("three")
    assert kinds(uploads.offered(three, OFFER, at(MAKE_ROOM_S))) == ["Publish"], "nobody is idle"
    effects = uploads.offered(three, OFFER, at(MAKE_ROOM_S + 1))
    assert effects == [OpenUpload(three, OFFER.payload)], "the spool keeps what has come"
    assert uploads.chunk("two", piece(0), at(MAKE_ROOM_S + 1)) is None
    assert uploads.chunk("one", piece(1), at(MAKE_ROOM_S + 1)) is not None


def test_an_upload_that_is_being_screened_makes_no_room() -> None:
    uploads = some_uploads(at_once=1)
    opened(uploads, frozenset({0, 1, 2}))
    (pace,) = told(uploads.offered(an_id("two"), OFFER, at(10 * MAKE_ROOM_S)))
    assert isinstance(pace, Pace)


def test_an_idle_upload_is_forgotten_and_the_spool_keeps_what_came(uploads: Uploads) -> None:
    opened(uploads)
    uploads.chunk("one", piece(0), at(10))
    assert uploads.due_s == 10 + IDLE_S
    uploads.expire(at(9 + IDLE_S))
    assert len(uploads) == 1
    uploads.expire(at(10 + IDLE_S))
    assert len(uploads) == 0


def test_an_upload_that_is_being_screened_is_waited_for_without_a_timer(uploads: Uploads) -> None:
    opened(uploads, frozenset({0, 1, 2}))
    assert uploads.due_s == inf
    uploads.expire(at(10 * IDLE_S))
    assert uploads.screened(ONE) == OFFER


def test_beyond_the_quota_a_device_is_put_off_but_one_upload_always_has_room() -> None:
    uploads = some_uploads(quota_bytes=2**20)
    large = an_offer(a_payload(700_000))
    assert kinds(uploads.offered(an_id("large"), an_offer(a_payload(2**20 + 1)), at())) == [
        "OpenUpload"
    ], "it is larger than the quota, but alone"
    uploads.forget(an_id("large"))
    uploads.offered(ONE, large, at())
    (pace,) = told(uploads.offered(an_id("two"), large, at()), TOPICS.down("two"))
    assert isinstance(pace, Pace)
    assert kinds(uploads.offered(an_id("three"), an_offer(a_payload(300_000)), at())) == [
        "OpenUpload"
    ]


def test_now_and_then_the_spool_is_swept_but_for_what_is_under_way(uploads: Uploads) -> None:
    assert uploads.expire(at(3)) == []
    assert uploads.due_s == 3 + SWEEP_S
    opened(uploads)
    uploads.chunk("one", piece(0), at(SWEEP_S))
    assert uploads.expire(at(2 + SWEEP_S)) == []
    assert uploads.expire(at(3 + SWEEP_S)) == [Sweep(frozenset({ONE}))]
    assert uploads.expire(at(4 + SWEEP_S)) == []


def test_what_was_under_way_is_lost_with_the_connection_of_its_device(uploads: Uploads) -> None:
    opened(uploads)
    assert uploads.offered(ONE, OFFER, at(0.1)) == [], "it may still come"
    uploads.relinked("one")
    uploads.relinked("nobody")
    (want,) = told(uploads.offered(ONE, OFFER, at(0.2)))
    assert want.chunks == (0,)  # type: ignore[union-attr]
