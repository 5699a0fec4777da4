"""The whole coordinator as a pure machine: what it hears, and what it has done about it."""

from __future__ import annotations

from math import inf
from typing import Any

import msgpack
import pytest

from config.failures import ExitCode
from config.settings import CoordinatorSettings
from coordinator.core import GRACE_S, CoordinatorCore, Self
from coordinator.patience import BURST, EVERY_S
from coordinator.progression import MOST_WAITING
from coordinator.roster import CONFIRM_S
from coordinator.storage import RETRY_S
from coordinator.uploads import SWEEP_S
from coordinator.vocabulary import (
    Accepted,
    Announce,
    Combine,
    Combined,
    Entry,
    Judge,
    Judged,
    OpenUpload,
    QuarantineChanged,
    Recollection,
    Report,
    Screen,
    Screened,
    ServeChunk,
    SetAside,
    Sweep,
    UpdateId,
    UploadOpened,
    WriteChunk,
)
from federation.machine import Level, Linked, Log, Publish, Stop, StorageFull, Tick, Unlinked
from federation.messages import (
    Chunk,
    CoordinatorPresence,
    Header,
    Hello,
    Offer,
    Pace,
    Reason,
    Receipt,
    Request,
    State,
    Verdict,
    encode,
)
from tests.specimens import (
    LEDGER,
    OUTBOX,
    PROCESS,
    TOPICS,
    a_birth,
    a_coordinator,
    a_death,
    a_payload,
    a_version,
    accepted,
    an_id,
    an_offer,
    at,
    heard,
    kinds,
    told,
)

BOOT = 2
MINE = BOOT << 24
OTHER = b"process2"
PAYLOAD = a_payload(2500)  # 625 elements in three chunks
ONE = an_id("one")


class Bench:
    """A core, a clock that the test sets, and the effects of each event."""

    def __init__(
        self,
        aggregation: dict[str, Any] | None = None,
        buffer: tuple[Accepted, ...] = (),
        settled: dict[tuple[str, bytes], int] | None = None,
        entries: dict[str, Entry] | None = None,
        **settings: Any,
    ) -> None:
        rule = {"buffer_size": 2, "max_staleness": 3, **(aggregation or {})}
        self.settings = CoordinatorSettings(
            task="task", transfer={"chunk_bytes": 1024}, aggregation=rule, **settings
        )
        memory = Recollection(
            LEDGER, a_version(5, PAYLOAD), settled or {}, buffer, entries=entries or {}
        )
        self.core = CoordinatorCore(Self(LEDGER, PROCESS, BOOT), TOPICS, self.settings, memory)
        self.now_s = 0.0

    def __call__(self, event: Any, chance: float = 0.0) -> list[Any]:
        effects = list(self.core.handle(event, at(self.now_s, chance)))
        self.core.validate()
        # The ledger takes every verdict in at once.
        for verdict in [effect for effect in effects if isinstance(effect, Judge)]:
            effects += self(Judged(verdict))
        return effects

    def hear(self, topic: str, message: Any) -> list[Any]:
        return self(heard(topic, message))

    def up(self, message: Any, device: str = "one") -> list[Any]:
        return self.hear(TOPICS.up(device), message)

    def begin(self) -> Bench:
        """Link, be born, and announce the version to the one device that is there."""
        self(Linked(MINE + 1))
        self.now_s = GRACE_S
        self(Tick())
        self.hear(TOPICS.device("one"), a_birth(1))
        assert self.core.progression.announced
        return self

    def deliver(self, sequence: int = 0, device: str = "one", base: int = 5) -> list[Any]:
        """One whole upload; the effects of its screening."""
        offer = an_offer(PAYLOAD, sequence=sequence, base_version=base)
        id = UpdateId(device, OUTBOX, sequence)
        self.up(offer, device)
        assert self(UploadOpened(id, frozenset({0, 1, 2}))) == [Screen(id, offer)]
        return self(Screened(id, 2.5, None))


def offer(**fields: Any) -> Offer:
    return an_offer(**{"payload": PAYLOAD, "base_version": 5, **fields})


# Being there


def test_a_coordinator_listens_for_another_before_it_is_born() -> None:
    bench = Bench()
    assert kinds(bench(Linked(MINE + 1))) == ["Log"]
    assert bench.core.next_tick_s == GRACE_S
    bench.now_s = GRACE_S
    (birth,) = bench(Tick())
    assert birth == Publish(TOPICS.coordinator, encode(a_coordinator(MINE + 1)), retain=True)


def test_after_the_first_time_it_is_born_as_soon_as_it_is_linked() -> None:
    bench = Bench().begin()
    bench(Unlinked("gone"))
    bench.now_s = 50
    effects = bench(Linked(MINE + 2))
    assert told(effects, TOPICS.coordinator) == [a_coordinator(MINE + 2)]
    assert [e for e in effects if isinstance(e, Announce)], "the broker may have forgotten it"


def test_a_link_that_breaks_before_the_birth_begins_the_listening_again() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    bench(Unlinked("gone"))
    bench.now_s = 50
    assert bench(Tick()) == []
    bench(Linked(MINE + 2))
    assert bench.core.next_tick_s == 50 + GRACE_S


def test_the_first_version_waits_for_as_many_devices_as_the_settings_say() -> None:
    bench = Bench({"wait_for": 2})
    bench(Linked(MINE + 1))
    bench.now_s = GRACE_S
    bench(Tick())
    assert "Announce" not in kinds(bench.hear(TOPICS.device("one"), a_birth(1)))
    assert "Announce" in kinds(bench.hear(TOPICS.device("two"), a_birth(1)))
    assert "Announce" not in kinds(bench.hear(TOPICS.device("three"), a_birth(1)))


def test_devices_that_are_there_at_the_birth_count() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    bench.hear(TOPICS.device("one"), a_birth(1))
    bench.now_s = GRACE_S
    assert kinds(bench(Tick())) == ["Publish", "Announce", "Log"]


# Another coordinator


def test_a_newcomer_leaves_when_another_coordinator_is_online() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    other = a_coordinator(7, process=OTHER, ledger=b"ledger-2")
    (stop,) = bench.hear(TOPICS.coordinator, other)
    assert isinstance(stop, Stop)
    assert stop.exit_code == ExitCode.DUPLICATE
    assert "flockwise/test" in stop.text
    assert "--take-over" in stop.text


def test_a_newcomer_that_takes_over_stays() -> None:
    bench = Bench(take_over=True)
    bench(Linked(MINE + 1))
    other = a_coordinator(7, process=OTHER, ledger=b"ledger-2")
    assert bench.hear(TOPICS.coordinator, other) == []


@pytest.mark.parametrize("take_over", [False, True])
def test_who_is_there_leaves_when_another_takes_over(take_over: bool) -> None:
    bench = Bench(take_over=take_over).begin()
    other = a_coordinator(7, process=OTHER, ledger=b"ledger-2")
    (stop,) = bench.hear(TOPICS.coordinator, other)
    assert isinstance(stop, Stop)
    assert stop.exit_code == ExitCode.DUPLICATE
    assert "has taken over" in stop.text


def test_a_coordinator_does_not_run_from_its_own_past() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    killed = a_coordinator(((BOOT - 1) << 24) + 1, process=OTHER)
    assert bench.hear(TOPICS.coordinator, killed) == []


def test_a_copy_of_the_ledger_that_was_started_more_often_is_another_coordinator() -> None:
    bench = Bench().begin()
    copy = a_coordinator(((BOOT + 1) << 24) + 1, process=OTHER)
    assert kinds(bench.hear(TOPICS.coordinator, copy)) == ["Stop"]


def test_its_own_presence_and_that_another_went_tell_a_coordinator_nothing() -> None:
    bench = Bench().begin()
    assert bench.hear(TOPICS.coordinator, a_coordinator(MINE + 1)) == []
    gone = a_coordinator(7, process=OTHER, ledger=b"ledger-2", state=State.OFFLINE)
    assert bench.hear(TOPICS.coordinator, gone) == []


@pytest.mark.parametrize("take_over", [False, True])
def test_a_rival_that_went_twice_was_there_in_between(take_over: bool) -> None:
    bench = Bench(take_over=take_over)
    bench(Linked(MINE + 1))
    went = {"process": OTHER, "ledger": b"ledger-2", "state": State.OFFLINE}
    assert bench.hear(TOPICS.coordinator, a_coordinator(7, **went)) == []
    assert bench.hear(TOPICS.coordinator, a_coordinator(7, **went)) == []
    effects = bench.hear(TOPICS.coordinator, a_coordinator(8, **went))
    assert kinds(effects) == ([] if take_over else ["Stop"])


# Devices


def test_devices_that_come_and_go_are_told_with_how_many_are_there() -> None:
    bench = Bench().begin()
    (came,) = bench.hear(TOPICS.device("two"), a_birth(1))
    (went,) = bench.hear(TOPICS.device("one"), a_death(1))
    assert (came.text, came.facts) == ("device online", {"device": "two", "online": 2})
    assert (went.text, went.facts) == ("device offline", {"device": "one", "online": 1})


def test_a_late_will_of_a_device_is_not_believed() -> None:
    bench = Bench().begin()
    bench.hear(TOPICS.device("one"), a_birth(2))
    assert bench.hear(TOPICS.device("one"), a_death(1)) == []
    assert "one" in bench.core.roster.online


def test_a_device_whose_presence_is_cleared_is_gone() -> None:
    bench = Bench().begin()
    (line,) = bench.hear(TOPICS.device("one"), b"")
    assert (line.text, line.facts["device"]) == ("device offline", "one")
    assert bench.hear(TOPICS.device("one"), b"") == []
    assert bench.core.roster.online == {}


def test_a_device_that_does_not_come_back_after_a_new_link_is_told() -> None:
    bench = Bench().begin()
    bench(Linked(MINE + 2))
    bench.now_s += CONFIRM_S
    assert bench.core.next_tick_s == bench.now_s
    (line,) = bench(Tick())
    assert (line.text, line.facts) == ("device did not come back", {"device": "one"})


def test_hello_of_a_device_that_knows_nothing_is_answered_with_the_header() -> None:
    (header,) = told(Bench().begin().up(Hello(incarnation=1)), TOPICS.down("one"))
    assert isinstance(header, Header)
    assert (header.version, header.ledger) == (5, LEDGER)


@pytest.mark.parametrize("known", [(b"ledger-2", 5, 0), (LEDGER, 4, 0), (LEDGER, 5, 1)])
def test_hello_of_a_device_that_knows_another_version_is_answered_with_the_header(
    known: tuple[bytes, int, int],
) -> None:
    ledger, version, draw = known
    hello = Hello(incarnation=1, ledger=ledger, version=version, draw=draw)
    assert kinds(told(Bench().begin().up(hello))) == ["Header"]


def test_hello_of_a_device_that_knows_the_version_is_answered_with_a_sign_of_life() -> None:
    hello = Hello(incarnation=1, ledger=LEDGER, boot=2, version=5)
    assert told(Bench().begin().up(hello), TOPICS.down("one")) == [a_coordinator(MINE + 1)]


def test_hello_stands_in_for_a_birth_that_was_lost() -> None:
    bench = Bench().begin()
    effects = bench.up(Hello(incarnation=1), "two")
    assert [e.text for e in effects if isinstance(e, Log)] == ["device online"]
    assert bench.core.roster.online == {"one": 1, "two": 1}


def test_before_anything_is_announced_hello_has_no_answer() -> None:
    bench = Bench({"wait_for": 9})
    bench(Linked(MINE + 1))
    assert told(bench.up(Hello(incarnation=1))) == []


def test_a_request_is_served_on_the_topic_of_the_device_that_asks() -> None:
    effects = Bench().begin().up(Request(version=4, chunks=(2, 0)))
    down = TOPICS.down("one")
    assert effects == [ServeChunk(down, 4, 2), ServeChunk(down, 4, 0)]


# Updates


def test_an_update_is_offered_wanted_taken_in_screened_and_entered_before_its_receipt() -> None:
    bench = Bench().begin()
    assert kinds(bench.up(offer())) == ["OpenUpload"]
    assert kinds(told(bench(UploadOpened(ONE, frozenset())))) == ["Want"]
    for index in (0, 1):
        piece = Chunk(0, index, PAYLOAD[1024 * index : 1024 * (index + 1)])
        assert kinds(bench.up(piece.encode()))[0] == "WriteChunk"
    last = bench.up(Chunk(0, 2, PAYLOAD[2048:]).encode())
    assert kinds(last) == ["WriteChunk", "Screen"]
    effects = bench(Screened(ONE, 2.5, None))
    assert effects[0] == Judge(ONE, offer(), 2.5)
    receipt = Receipt(outbox=OUTBOX, sequence=0, verdict=Verdict.ACCEPTED)
    assert told(effects[1:2], TOPICS.down("one")) == [receipt]
    assert kinds(effects) == ["Judge", "Publish", "Log", "Report"]
    assert bench.core.progression.buffer == [Accepted(ONE, 5, 10, norm=2.5)]


def test_the_report_of_an_update_holds_what_the_device_measured() -> None:
    bench = Bench().begin()
    (report,) = [e for e in bench.deliver(base=4) if isinstance(e, Report)]
    assert report.kind == "update"
    assert report.facts == {
        "device": "one",
        "sequence": 0,
        "base_version": 4,
        "staleness": 1,
        "examples": 10,
        "steps": 5,
        "train_s": 1.0,
        "bytes": 2500,
        "norm": 2.5,
        "metrics": {"loss": 0.5},
    }


def test_a_refusal_is_entered_before_its_receipt_and_no_chunk_moves() -> None:
    bench = Bench().begin()
    effects = bench.up(offer(base_version=1))
    detail = "missed 4 versions, at most 3 are allowed"
    assert effects[0] == Judge(ONE, offer(base_version=1), 0.0, Reason.STALE, detail)
    (receipt,) = told(effects[1:2], TOPICS.down("one"))
    assert isinstance(receipt, Receipt)
    assert (receipt.verdict, receipt.reason) == (Verdict.REFUSED, Reason.STALE)
    assert kinds(effects) == ["Judge", "Publish", "Log", "Report"]


def test_an_upload_that_fails_its_screening_is_refused() -> None:
    bench = Bench().begin()
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset({0, 1, 2})))
    effects = bench(Screened(ONE, 0.0, Reason.NOT_FINITE, "holds no numbers"))
    assert effects[0] == Judge(ONE, offer(), 0.0, Reason.NOT_FINITE, "holds no numbers")
    assert bench.core.progression.buffer == []


def test_an_offer_of_an_update_that_was_accepted_is_answered_known() -> None:
    bench = Bench().begin()
    bench.deliver(0)
    (receipt,) = told(bench.up(offer(sequence=0)), TOPICS.down("one"))
    assert isinstance(receipt, Receipt)
    assert receipt.verdict is Verdict.KNOWN


def test_a_refused_offer_that_comes_again_is_refused_again_and_settles_nothing_else() -> None:
    bench = Bench().begin()
    foreign = offer(sequence=2**40, base_version=0)
    for _ in range(2):
        (receipt,) = told(bench.up(foreign), TOPICS.down("one"))
        assert isinstance(receipt, Receipt)
        assert (receipt.verdict, receipt.reason) == (Verdict.REFUSED, Reason.STALE)
    bench.deliver(0)


def test_what_was_judged_before_a_restart_is_known_after_it() -> None:
    bench = Bench(settled={("one", OUTBOX): 4}).begin()
    assert kinds(told(bench.up(offer(sequence=4)))) == ["Receipt"]
    assert kinds(bench.up(offer(sequence=5))) == ["OpenUpload"]


def test_a_wiped_device_is_not_taken_for_one_that_repeats_itself() -> None:
    bench = Bench().begin()
    bench.deliver(0)
    assert kinds(bench.up(offer(sequence=0, outbox=b"outbox-2"))) == ["OpenUpload"]


def test_two_devices_may_have_the_same_outbox_and_sequence() -> None:
    bench = Bench().begin()
    bench.deliver(0, "one")
    assert kinds(bench.up(offer(), "two")) == ["OpenUpload"]


def test_an_update_that_became_stale_on_its_way_is_refused_after_all() -> None:
    bench = Bench({"max_staleness": 0, "trigger": "immediate"}).begin()
    bench.up(offer(), "two")
    bench(UploadOpened(an_id("two"), frozenset({0, 1, 2})))
    bench.deliver(0, "one")
    assert bench.core.progression.next_base == 6
    effects = bench(Screened(an_id("two"), 1.0, None))
    assert effects[0].refusal is Reason.STALE


def test_an_upload_that_is_being_screened_is_not_torn_away_by_any_offer() -> None:
    bench = Bench({"max_staleness": 0, "trigger": "immediate"}).begin()
    bench.up(offer(), "two")
    bench(UploadOpened(an_id("two"), frozenset({0, 1, 2})))
    bench.deliver(0, "one")
    # Now stale, and its file is being read: to drop it here would pull it from under the reader.
    assert bench.up(offer(), "two") == []
    assert bench.up(offer(outbox=b"outbox-2"), "two") == []
    assert bench(Screened(an_id("two"), 1.0, None))[0].refusal is Reason.STALE


def test_a_screening_that_nobody_waits_for_changes_nothing() -> None:
    bench = Bench().begin()
    assert bench(Screened(ONE, 1.0, None)) == []
    assert bench.core.progression.buffer == []


def test_an_idle_upload_is_forgotten_in_time_and_goes_on_with_the_next_offer() -> None:
    bench = Bench().begin()
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset()))
    while len(bench.core.uploads):
        assert bench.core.next_tick_s < inf
        bench.now_s = bench.core.next_tick_s
        bench(Tick())
    assert kinds(bench.up(offer())) == ["OpenUpload"]


# Devices that are not as they should be


def test_a_device_that_cools_down_is_put_off_before_any_chunk_moves() -> None:
    bench = Bench({"trigger": "immediate", "cooldown": 1}).begin()
    bench.hear(TOPICS.device("two"), a_birth(1))
    order = bench.deliver(0, "one")[-1]
    assert isinstance(order, Combine)
    bench(Combined(a_version(6, PAYLOAD), order.contributions))
    (pace,) = told(bench.up(offer(sequence=1)), TOPICS.down("one"))
    assert isinstance(pace, Pace)
    assert pace.reason == "cooling down: other devices have their turn"
    assert 1 <= pace.wait_s <= 60
    order = bench.deliver(0, "two")[-1]
    bench(Combined(a_version(7, PAYLOAD), order.contributions))
    assert kinds(bench.up(offer(sequence=1))) == ["OpenUpload"]


def test_no_device_piles_up_updates_that_only_versions_of_their_own_could_take() -> None:
    bench = Bench({"buffer_size": 2, "cooldown": 0, "deadline_s": None}).begin()
    for sequence in range(MOST_WAITING):
        bench.deliver(sequence, "one")
    (pace,) = told(bench.up(offer(sequence=MOST_WAITING)), TOPICS.down("one"))
    assert isinstance(pace, Pace)
    assert kinds(bench.up(offer(), "two")) == ["OpenUpload"]  # it is the other one's turn


def test_an_update_that_is_no_longer_of_this_world_is_refused_for_its_norm() -> None:
    bench = Bench({"norm_limit": 100, "buffer_size": 9}).begin()
    for device in ("a", "b", "c"):
        bench.deliver(0, device)
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset({0, 1, 2})))
    effects = bench(Screened(ONE, 251.0, None))
    assert effects[0].refusal is Reason.NORM
    assert effects[0].detail == "norm 251 is over 100 times the median, 2.5"
    assert bench.core.progression.standing.rows["one"].refusals == 1
    bench.up(offer(sequence=1))
    bench(UploadOpened(an_id("one", 1), frozenset({0, 1, 2})))
    assert bench(Screened(an_id("one", 1), 249.0, None))[0].refusal is None


def test_a_device_that_is_refused_again_and_again_is_put_off() -> None:
    bench = Bench().begin()
    for sequence in range(BURST):
        effects = bench.up(offer(sequence=sequence, base_version=0))
        assert effects[0].refusal is Reason.STALE
    (pace,) = told(bench.up(offer(sequence=99, base_version=0)))
    assert isinstance(pace, Pace)
    assert (pace.reason, pace.wait_s) == ("refused too often", EVERY_S)
    assert kinds(bench.up(offer(), "two")) == ["OpenUpload"], "others are not"
    bench.now_s += EVERY_S
    assert bench.up(offer(sequence=99, base_version=0))[0].refusal is Reason.STALE
    assert kinds(told(bench.up(offer(sequence=100, base_version=0)))) == ["Pace"]
    bench.now_s += BURST * EVERY_S
    for sequence in range(BURST):
        assert bench.up(offer(sequence=sequence, base_version=0))[0].refusal is Reason.STALE


def test_a_device_in_quarantine_is_refused_and_what_waits_of_it_is_set_aside() -> None:
    bench = Bench({"buffer_size": 3}).begin()
    bench.deliver(0, "one")
    bench.deliver(0, "two")
    entries = {"one": Entry(True, "hand", "was stolen", 5)}
    effects = bench(QuarantineChanged(entries))
    assert kinds(effects) == ["Log", "Report", "SetAside"]
    assert effects[-1] == SetAside((an_id("one", 0),))
    assert [accepted.id.device for accepted in bench.core.progression.buffer] == ["two"]
    refused = bench.up(offer(sequence=1))[0]
    assert refused.refusal is Reason.QUARANTINED
    assert refused.detail == "one is in quarantine: was stolen"
    bench(QuarantineChanged({"one": Entry(False, "hand", "found again", 5)}))
    assert kinds(bench.up(offer(sequence=1))) == ["OpenUpload"]


def test_an_upload_under_way_is_refused_when_its_device_is_put_into_quarantine() -> None:
    bench = Bench().begin()
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset({0, 1, 2})))
    bench(QuarantineChanged({"one": Entry(True, "hand", "was stolen", 5)}))
    assert bench(Screened(ONE, 2.5, None))[0].refusal is Reason.QUARANTINED


def test_what_is_being_made_into_a_version_is_not_set_aside() -> None:
    bench = Bench({"trigger": "immediate"}).begin()
    order = bench.deliver(0, "one")[-1]
    put = QuarantineChanged({"one": Entry(True, "hand", "was stolen", 5)})
    assert "SetAside" not in kinds(bench(put))
    effects = bench(Combined(a_version(6, PAYLOAD), order.contributions))
    assert "SetAside" not in kinds(effects)
    assert bench.core.progression.buffer == []


def test_what_could_not_be_made_into_a_version_is_not_tried_again_for_it() -> None:
    bench = Bench({"trigger": "immediate"}).begin()
    order = bench.deliver(0, "one")[-1]
    bench(QuarantineChanged({"one": Entry(True, "hand", "was stolen", 5)}))
    bench(StorageFull(order))
    bench.now_s += RETRY_S
    assert "Combine" not in kinds(bench(Tick()))


def test_who_was_in_quarantine_before_a_restart_is_there_after_it() -> None:
    entries = {"one": Entry(True, "rule", "score 0.95", 4)}
    buffer, settled = (accepted("one", 0, 5),), {("one", OUTBOX): 0}
    bench = Bench(buffer=buffer, settled=settled, entries=entries)
    effects = bench.begin().up(offer(sequence=1))
    assert effects[0].refusal is Reason.QUARANTINED
    assert bench.core.progression.buffer == []


# A disk without room


@pytest.fixture
def full() -> Bench:
    """A coordinator that had no room for the chunk of an upload."""
    bench = Bench().begin()
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset()))
    (log,) = bench(StorageFull(WriteChunk(ONE, 0, PAYLOAD[:1024])))
    assert (log.level, log.facts["while"]) == (Level.ERROR, "WriteChunk")
    return bench


def test_without_room_offers_are_put_off_with_the_reason(full: Bench) -> None:
    (pace,) = told(full.up(offer()), TOPICS.down("one"))
    assert isinstance(pace, Pace)
    assert pace.reason == "the storage of the coordinator is full"
    assert kinds(full(StorageFull(WriteChunk(ONE, 0, b"x")))) == [], "it is told once"


def test_without_room_a_verdict_is_not_told_and_is_reached_again_later() -> None:
    bench = Bench().begin()
    bench.up(offer())
    bench(UploadOpened(ONE, frozenset({0, 1, 2})))
    (verdict,) = bench.core.handle(Screened(ONE, 2.5, None), at(bench.now_s))
    assert kinds(bench(StorageFull(verdict))) == ["Log"]
    assert bench.core.progression.buffer == []
    bench.now_s = bench.core.next_tick_s
    assert kinds(bench.up(offer())) == ["OpenUpload"]
    bench(UploadOpened(ONE, frozenset({0, 1, 2})))
    effects = bench(Screened(ONE, 2.5, None))
    assert [e.text for e in effects if isinstance(e, Log)] == [
        "storage has room again",
        "update accepted",
    ]


def test_without_room_for_a_version_it_is_made_again_in_a_while() -> None:
    bench = Bench({"trigger": "immediate"}).begin()
    order = bench.deliver()[-1]
    assert isinstance(order, Combine)
    bench(StorageFull(order))
    assert bench.core.next_tick_s == bench.now_s + RETRY_S
    bench.now_s += RETRY_S
    assert bench(Tick()) == [order]
    effects = bench(Combined(a_version(6, PAYLOAD), order.contributions))
    assert kinds(effects)[:2] == ["Log", "Log"]
    assert "storage has room again" in [e.text for e in effects if isinstance(e, Log)]


def test_a_disk_that_stays_full_is_tried_again_and_again_without_a_word(full: Bench) -> None:
    for _ in range(3):
        full.now_s = full.core.next_tick_s
        assert kinds(full(Tick())) == []
        assert kinds(full.up(offer())) == ["OpenUpload"]
        assert full(StorageFull(OpenUpload(ONE, offer().payload))) == []
        assert full.core.next_tick_s == full.now_s + RETRY_S


# Versions


def test_the_update_that_fills_the_buffer_orders_the_version() -> None:
    bench = Bench().begin()
    assert "Combine" not in kinds(bench.deliver(0, "one"))
    effects = bench.deliver(0, "two")
    assert kinds(effects)[0] == "Judge", "it is in the ledger before it is combined"
    assert kinds(effects)[-1] == "Combine"


def test_without_a_link_versions_go_on_and_are_announced_on_return() -> None:
    bench = Bench().begin()
    bench.up(offer(), "two")
    bench(UploadOpened(an_id("two"), frozenset({0, 1, 2})))
    bench.deliver(0, "one")
    bench(Unlinked("gone"))
    effects = bench(Screened(an_id("two"), 1.0, None))
    (combine,) = [e for e in effects if isinstance(e, Combine)]
    made = bench(Combined(a_version(6, PAYLOAD), combine.contributions))
    assert "Announce" not in kinds(made)
    (announced,) = [e for e in bench(Linked(MINE + 2)) if isinstance(e, Announce)]
    assert announced.info.version == 6


def test_a_buffer_that_was_full_before_a_restart_is_combined_when_all_begins() -> None:
    waiting = (Accepted(an_id("a"), 5, 1), Accepted(an_id("b"), 5, 1))
    settled = {("a", OUTBOX): 0, ("b", OUTBOX): 0}
    bench = Bench(buffer=waiting, settled=settled)
    bench(Linked(MINE + 1))
    bench.now_s = GRACE_S
    bench(Tick())
    assert kinds(bench.hear(TOPICS.device("one"), a_birth(1)))[-1] == "Combine"


# What is not for it


@pytest.mark.parametrize(
    ("topic", "payload", "count"),
    [
        ("flockwise/other/coordinator", b"", "foreign topic"),
        (TOPICS.down("one"), encode(a_birth(1)), "unexpected message"),
        (TOPICS.up("one"), encode(a_coordinator(9)), "unexpected message"),
        (TOPICS.coordinator, encode(offer()), "unexpected message"),
        (TOPICS.device("one"), encode(offer()), "unexpected message"),
        (TOPICS.up("one"), Chunk(0, 0, b"x").encode(), "unexpected message"),
        (TOPICS.up("one"), b"\xff" * 20, "malformed message"),
        (TOPICS.coordinator, b"", "malformed message"),
    ],
)
def test_what_has_no_business_here_is_counted_and_told(
    topic: str, payload: bytes, count: str
) -> None:
    bench = Bench().begin()
    (line,) = bench.hear(topic, payload)
    assert isinstance(line, Log)
    assert bench.core.counts == {count: 1}


def test_a_log_line_does_not_grow_with_what_a_stranger_sends() -> None:
    bench = Bench().begin()
    (line,) = bench.hear(TOPICS.up("one"), msgpack.packb({"protocol": "x" * 100_000}))
    assert len(line.facts["detail"]) <= 300


def test_a_coordinator_with_nothing_to_do_wakes_only_to_sweep_its_spool() -> None:
    bench = Bench().begin()
    assert bench.core.next_tick_s == SWEEP_S
    assert bench(Tick()) == []
    bench.now_s = SWEEP_S
    assert bench(Tick()) == [Sweep(frozenset())]
    assert bench.core.next_tick_s == 2 * SWEEP_S


def test_presence_says_who_and_where() -> None:
    presence = Self(LEDGER, PROCESS, BOOT).presence(State.OFFLINE, 9)
    assert presence == CoordinatorPresence(
        state=State.OFFLINE, ledger=LEDGER, process=PROCESS, incarnation=9
    )
