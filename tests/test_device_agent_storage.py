"""A full disk as a state of the whole agent: told once, waited out, nothing given up."""

from __future__ import annotations

from typing import Any

import pytest

from device_agent.core import AgentCore
from device_agent.presence import Self
from device_agent.storage import RETRY_STORAGE_S, STORAGE_FULL
from device_agent.vocabulary import (
    Abandon,
    Commit,
    Committed,
    Forget,
    Forgotten,
    Look,
    Looked,
    Prepare,
    Prepared,
    StoreChunk,
    Train,
    TrainingBegun,
    TrainingEnded,
    TrainingFailed,
    TrainingStalled,
)
from device_agent.work import ATTEMPTS_PER_VERSION, Phase
from federation.machine import Linked, Log, StorageFull, Tick, Unlinked, Unsubscribe
from federation.messages import (
    Chunk,
    DevicePresence,
    Header,
    Offer,
    Receipt,
    Verdict,
    decode,
    encode,
)
from tests.specimens import (
    OUTBOX,
    PROCESS,
    TOPICS,
    TRANSFER,
    a_header,
    a_payload,
    an_offer,
    at,
    heard,
    kinds,
    told,
)

MINE = (2 << 24) + 1
HERE, DOWN = TOPICS.device("one"), TOPICS.down("one")
PAYLOAD = a_payload(2048)  # two chunks


def header(version: int, **fields: Any) -> Header:
    """A header as it comes off the wire."""
    message = decode(encode(a_header(PAYLOAD, version=version, **fields)))
    assert isinstance(message, Header)
    return message


HEADER = header(3)
ENDED = TrainingEnded(3, 10, 5, 1.0, {})
COMMIT = Commit(HEADER, ENDED)
ALL = frozenset({0, 1})


NOT_ON_DISK = ("Log", "Look", "Publish", "Subscribe")


class Bench:
    """A core with its link up, a clock, and what it told of its storage."""

    def __init__(self, *offers: Offer) -> None:
        me = Self("one", OUTBOX, PROCESS, 2, "task", "1.0")
        self.core = AgentCore(me, TOPICS, TRANSFER, 4, offers, place="/here")
        self.now_s = 0.0
        self.lines: list[Log] = []
        self.paused: list[str] = []
        self(Linked(MINE))

    def __call__(self, event: Any) -> list[Any]:
        effects = list(self.core.handle(event, at(self.now_s)))
        self.core.validate()
        if any(isinstance(effect, Look) for effect in effects):
            effects += self.core.handle(Looked(""), at(self.now_s))
        for effect in effects:
            if isinstance(effect, Log) and "storage" in effect.text:
                self.lines.append(effect)
        for presence in told(effects, HERE):
            assert isinstance(presence, DevicePresence)
            assert presence.incarnation == MINE
            self.paused.append(presence.paused)
        return [e for e in effects if type(e).__name__ not in NOT_ON_DISK]

    def wait(self, seconds: float = 2 * RETRY_STORAGE_S) -> list[Any]:
        """What is done on disk until so much time has passed."""
        end_s, done = self.now_s + seconds, []
        while self.core.next_tick_s <= end_s:
            self.now_s = max(self.now_s, self.core.next_tick_s)
            done += self(Tick())
        self.now_s = end_s
        return done

    def refuse(self, effect: Any) -> list[Any]:
        return self(StorageFull(effect))

    def train(self) -> None:
        """Come as far as the training on a version."""
        self(heard(TOPICS.model, HEADER))
        assert self(Prepared(HEADER, ALL)) == [Train(HEADER)]
        assert self.core.work.phase is Phase.TRAINING

    def judge(self, sequence: int) -> list[Any]:
        verdict = Receipt(outbox=OUTBOX, sequence=sequence, verdict=Verdict.ACCEPTED)
        return self(heard(DOWN, verdict))

    def ended(self) -> bool:
        """Whether one beginning and one end were told, in the log and in the presence."""
        texts = [line.text for line in self.lines]
        return texts == [STORAGE_FULL, "storage has room again"] and self.paused == [
            "",
            STORAGE_FULL,
            "",
        ]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_version_that_has_no_room_is_prepared_again_until_it_has(bench: Bench) -> None:
    assert bench(heard(TOPICS.model, HEADER)) == [Prepare(HEADER)]
    for _ in range(3):
        assert bench.refuse(Prepare(HEADER)) == []
        assert bench.wait(RETRY_STORAGE_S) == [Prepare(HEADER)]
    assert bench.paused == ["", STORAGE_FULL]
    (line,) = bench.lines
    assert line.level.name == "WARNING"
    assert line.facts == {"unwritten": "version 3", "hint": "free space in /here"}
    assert bench(Prepared(HEADER, ALL)) == [Train(HEADER)]
    assert bench.ended()


def test_a_chunk_that_has_no_room_ends_the_fetch_and_the_next_goes_on_with_what_is_there(
    bench: Bench,
) -> None:
    bench(heard(TOPICS.model, HEADER))
    bench(Prepared(HEADER, frozenset()))
    chunk = Chunk(3, 0, PAYLOAD[:1024])
    (stored,) = bench(heard(TOPICS.model_chunk(1, 0), chunk.encode()))
    assert kinds([stored]) == ["StoreChunk"]
    assert kinds(bench.refuse(stored)) == ["Unsubscribe"]
    assert bench.refuse(StoreChunk(HEADER, 1, PAYLOAD[1024:])) == [], "of the fetch that is over"
    assert bench.wait(RETRY_STORAGE_S) == [Prepare(HEADER)]
    bench(Prepared(HEADER, frozenset()))
    assert len(bench.lines) == 1, "that it is prepared does not say that all of it has room"
    for index in ALL:
        piece = Chunk(3, index, PAYLOAD[1024 * index : 1024 * (index + 1)])
        effects = bench(heard(TOPICS.model_chunk(1, index), piece.encode()))
    assert effects[-1] == Train(HEADER)
    assert bench.ended()


def test_no_training_goes_on_over_a_chunk_that_was_not_stored(bench: Bench) -> None:
    bench(heard(TOPICS.model, HEADER))
    bench(Prepared(HEADER, frozenset({0})))
    last = Chunk(3, 1, PAYLOAD[1024:])
    stored, unsubscribe, train = bench(heard(TOPICS.model_chunk(1, 1), last.encode()))
    assert isinstance(unsubscribe, Unsubscribe)
    assert train == Train(HEADER)
    assert bench.refuse(stored) == [Abandon()]
    assert bench(TrainingBegun(3)) == []
    assert bench(ENDED) == []
    assert bench.wait(RETRY_STORAGE_S) == [Prepare(HEADER)]


def test_a_training_whose_outcome_has_no_room_is_not_begun(bench: Bench) -> None:
    bench.train()
    bench.refuse(Train(HEADER))
    assert bench.wait(RETRY_STORAGE_S) == [Prepare(HEADER)]
    bench(Prepared(HEADER, ALL))
    assert bench.paused[-1] == STORAGE_FULL, "only that it has begun tells that there is room"
    bench(TrainingBegun(3))
    assert bench.ended()


def test_a_training_that_a_full_disk_ends_is_tried_as_often_as_it_takes(bench: Bench) -> None:
    bench.train()
    for _ in range(2 * ATTEMPTS_PER_VERSION):
        bench(TrainingFailed(3, "scratch: No space left on device", storage_full=True))
        assert bench.wait(RETRY_STORAGE_S) == [Prepare(HEADER)]
        assert bench(Prepared(HEADER, ALL)) == [Train(HEADER)]
        bench(TrainingBegun(3))
    (line,) = bench.lines
    assert line.facts["unwritten"] == "scratch: No space left on device"
    assert bench(ENDED) == [COMMIT]
    bench(Committed(an_offer(base_version=3)))
    assert bench.ended()


def test_a_training_that_fails_for_another_reason_is_not_a_full_disk(bench: Bench) -> None:
    bench.train()
    bench(TrainingFailed(3, "full", storage_full=True))
    bench.wait(RETRY_STORAGE_S)
    bench(Prepared(HEADER, ALL))
    bench(TrainingFailed(3, "out of memory"))
    assert bench.ended()


def test_a_worker_that_waits_for_room_is_let_wait(bench: Bench) -> None:
    bench.train()
    for _ in range(3):
        assert bench(TrainingStalled(3)) == []
        assert bench.wait() == []
    assert bench.paused == ["", STORAGE_FULL]
    assert bench(ENDED) == [COMMIT]
    bench(Committed(an_offer(base_version=3)))
    assert bench.ended()


def test_what_the_outbox_cannot_take_is_offered_to_it_again(bench: Bench) -> None:
    bench.train()
    bench(ENDED)
    for _ in range(3):
        assert bench.refuse(COMMIT) == []
        assert bench.core.work.phase is Phase.TRAINING
        assert bench.wait(RETRY_STORAGE_S) == [COMMIT]
    bench(Committed(an_offer(base_version=3)))
    assert bench.core.work.phase is Phase.WAITING
    assert bench.wait() == []
    assert bench.ended()


def test_an_update_is_not_entered_twice_while_it_is_unknown_whether_it_was(bench: Bench) -> None:
    bench.train()
    bench(ENDED)
    bench.refuse(COMMIT)
    assert bench.wait(RETRY_STORAGE_S) == [COMMIT]
    assert bench(heard(TOPICS.model, header(4))) == []
    assert bench(Forgotten(0)) == []
    assert bench.wait() == []


def test_an_update_that_is_overtaken_while_it_waits_for_room_is_dropped(bench: Bench) -> None:
    bench.train()
    bench(ENDED)
    bench.refuse(COMMIT)
    far = header(50)
    assert bench(heard(TOPICS.model, far)) == [Abandon(), Prepare(far)]
    assert bench.paused[-1] == STORAGE_FULL, "nothing says that there is room"
    bench(Prepared(far, ALL))
    bench(TrainingBegun(50))
    assert bench(TrainingEnded(50, 10, 5, 1.0, {}))
    assert bench.wait() == []
    bench(Committed(an_offer(base_version=50)))
    assert bench.ended()


def test_what_is_no_longer_wanted_needs_no_room(bench: Bench) -> None:
    bench.train()
    bench(ENDED)
    bench.refuse(COMMIT)
    assert bench(heard(TOPICS.model, header(50, task="other"))) == [Abandon()]
    assert bench.ended()
    assert bench.wait() == []


def test_a_verdict_that_could_not_be_noted_is_noted_later_and_delivery_goes_on() -> None:
    bench = Bench(an_offer(sequence=0), an_offer(sequence=1))
    for sequence in (0, 1):
        assert bench.judge(sequence) == [Forget(sequence, accepted=True)]
        bench.refuse(Forget(sequence, accepted=True))
    (line,) = bench.lines
    assert line.facts["unwritten"] == "the verdict on update 0"
    assert bench.wait(RETRY_STORAGE_S) == [Forget(0, accepted=True), Forget(1, accepted=True)]
    bench.refuse(Forget(0, accepted=True))
    bench(Forgotten(1))
    assert bench.paused[-1] == STORAGE_FULL
    assert bench.wait(RETRY_STORAGE_S) == [Forget(0, accepted=True)]
    bench(Forgotten(0))
    assert bench.ended()


def test_room_that_an_update_gave_back_is_used_at_once() -> None:
    bench = Bench(an_offer(sequence=0))
    bench(heard(TOPICS.model, HEADER))
    bench.refuse(Prepare(HEADER))
    assert bench.judge(0) == [Forget(0, accepted=True)]
    assert bench(Forgotten(0)) == [Prepare(HEADER)]


def test_an_update_that_waits_for_room_is_tried_again_when_another_is_gone() -> None:
    bench = Bench(an_offer(sequence=0))
    bench.train()
    bench(ENDED)
    bench.refuse(COMMIT)
    bench.judge(0)
    assert bench(Forgotten(0)) == [COMMIT]


def test_a_disk_that_fills_without_a_link_is_told_with_the_next_birth(bench: Bench) -> None:
    bench.train()
    bench(Unlinked("gone"))
    bench.refuse(Train(HEADER))
    assert bench.paused == [""]
    bench(Linked(MINE))
    bench.wait(5)
    assert bench.paused == ["", STORAGE_FULL]


def test_a_refusal_of_work_that_is_over_tells_nothing(bench: Bench) -> None:
    bench.refuse(Prepare(HEADER))
    bench.refuse(COMMIT)
    assert bench.lines == []
    assert bench.wait() == []
