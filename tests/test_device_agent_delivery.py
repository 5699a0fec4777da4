"""How updates leave a device: one at a time, again after silence, until they are judged."""

from __future__ import annotations

from math import inf

import pytest

from device_agent.delivery import LONGEST_SILENCE_S, SPREAD_S, Delivery
from device_agent.vocabulary import Forget, SendChunk
from federation.machine import Log
from federation.messages import Offer, Pace, Reason, Receipt, Verdict, Want
from tests.specimens import OUTBOX, TOPICS, a_payload, an_offer, at, kinds, told

UP = TOPICS.up("one")
FIRST, SECOND, THIRD = (an_offer(a_payload(2500, n), sequence=n) for n in range(3))
SILENCE_S = 4.0


def delivery(*offers: Offer, opened: bool = True) -> Delivery:
    made = Delivery(UP, offers, SILENCE_S)
    if opened:
        made.resume(at(0))
    return made


def receipt(sequence: int, verdict: Verdict = Verdict.ACCEPTED, **fields: object) -> Receipt:
    known = {"outbox": OUTBOX, "sequence": sequence, "verdict": verdict}
    return Receipt.model_validate({**known, **fields})


def want(sequence: int, *chunks: int, outbox: bytes = OUTBOX) -> Want:
    return Want(outbox=outbox, sequence=sequence, chunks=chunks)


def test_the_oldest_update_is_offered_alone() -> None:
    assert told(delivery(FIRST, SECOND).advance(at(0)), UP) == [FIRST]


def test_offers_after_a_link_are_spread_over_a_moment() -> None:
    made = delivery(FIRST, opened=False)
    made.resume(at(10, chance=0.5))
    assert made.due_s == 10 + 0.5 * SPREAD_S
    assert made.advance(at(10)) == []
    assert told(made.advance(at(10.5))) == [FIRST]


def test_without_a_coordinator_nothing_is_offered_and_nothing_is_lost() -> None:
    made = delivery(FIRST)
    made.pause()
    assert made.due_s == inf
    assert made.advance(at(1000)) == []
    assert len(made) == 1
    made.resume(at(1000))
    assert told(made.advance(at(1000))) == [FIRST]


def test_with_nothing_to_deliver_there_is_nothing_to_wait_for() -> None:
    assert delivery().due_s == inf
    assert delivery().advance(at(1000)) == []


def test_a_new_update_is_offered_at_once_if_nothing_is_under_way() -> None:
    made = delivery()
    made.add(FIRST, at(7))
    assert told(made.advance(at(7))) == [FIRST]
    made.add(SECOND, at(8))
    assert made.advance(at(8)) == [], "the first one is under way"


@pytest.mark.parametrize(
    ("chance", "waits"), [(0.0, [3, 6, 12, 24, 45, 45]), (1.0, [5, 10, 20, 40, 75, 75])]
)
def test_silence_doubles_the_wait_up_to_a_bound(chance: float, waits: list[float]) -> None:
    made = delivery(FIRST)
    now_s, seen = 0.0, []
    for _ in waits:
        assert told(made.advance(at(now_s, chance))) == [FIRST]
        seen.append(made.due_s - now_s)
        now_s = made.due_s
    # 4, 8, 16, 32, 60 and 60 seconds, a quarter less to a quarter more.
    assert seen == waits
    assert seen[-1] <= 1.25 * LONGEST_SILENCE_S


def test_the_backoff_never_overflows() -> None:
    made = delivery(FIRST)
    for _ in range(2000):
        made.advance(at(made.due_s))
    assert made.due_s < inf


def test_a_want_is_credit_for_its_chunks_and_a_sign_of_life() -> None:
    made = delivery(FIRST)
    for _ in range(4):
        made.advance(at(made.due_s))
    assert made.want(want(0, 2, 0), at(100)) == [SendChunk(0, 2), SendChunk(0, 0)]
    assert made.due_s == 103
    assert told(made.advance(at(103))) == [FIRST]
    assert made.due_s == 106, "the silence counts from the beginning again"


def test_a_chunk_is_sent_once_between_two_offers() -> None:
    made = delivery(FIRST)
    made.advance(at(0))
    assert made.want(want(0, 0, 1), at(0)) == [SendChunk(0, 0), SendChunk(0, 1)]
    assert made.want(want(0, 1, 2), at(1)) == [SendChunk(0, 2)], "the other is under way"
    assert told(made.advance(at(made.due_s))) == [FIRST]
    assert made.want(want(0, 1), at(9)) == [SendChunk(0, 1)]


def test_when_answers_take_long_silence_is_longer() -> None:
    made = delivery(FIRST)
    made.advance(at(0, chance=0.5))
    made.want(want(0, 0), at(0, chance=0.5))
    assert made.due_s == SILENCE_S
    made.want(want(0, 1), at(3, chance=0.5))
    assert made.due_s == 3 + 3 * 3
    made.resume(at(10))
    made.advance(at(10, chance=0.5))
    assert made.due_s == 10 + SILENCE_S, "a new link has to show anew how slow it is"


def test_chunks_that_do_not_exist_are_not_sent() -> None:
    assert delivery(FIRST).want(want(0, 2, 3, 1000), at(0)) == [SendChunk(0, 2)]


@pytest.mark.parametrize("foreign", [want(9, 0), want(0, 0, outbox=b"outbox-2")])
def test_a_want_of_a_foreign_update_is_no_credit(foreign: Want) -> None:
    made = delivery(FIRST)
    made.advance(at(0))
    due_s = made.due_s
    assert made.want(foreign, at(1)) == []
    assert made.due_s == due_s


def test_a_receipt_lets_the_update_go_and_the_next_one_is_offered_at_once() -> None:
    made = delivery(FIRST, SECOND)
    made.advance(at(0))
    forget, line = made.receipt(receipt(0), at(1))
    assert forget == Forget(0, accepted=True)
    assert isinstance(line, Log)
    assert (line.text, line.facts) == ("update accepted", {"sequence": 0, "base_version": 0})
    assert told(made.advance(at(1))) == [SECOND]


def test_an_update_that_was_known_is_gone_too() -> None:
    made = delivery(FIRST)
    forget, line = made.receipt(receipt(0, Verdict.KNOWN), at(1))
    assert forget == Forget(0, accepted=True)
    assert isinstance(line, Log)
    assert line.text == "update known"
    assert len(made) == 0


def test_a_refused_update_is_gone_with_its_reason_in_the_log() -> None:
    refused = receipt(0, Verdict.REFUSED, reason=Reason.STALE, detail="missed 4 versions")
    forget, line = delivery(FIRST).receipt(refused, at(1))
    assert forget == Forget(0)
    assert isinstance(line, Log)
    assert line.text == "update refused"
    assert line.facts["reason"] == "stale: missed 4 versions"


@pytest.mark.parametrize("foreign", [receipt(9), receipt(0, outbox=b"outbox-2")])
def test_a_receipt_of_a_foreign_update_lets_nothing_go(foreign: Receipt) -> None:
    made = delivery(FIRST)
    assert made.receipt(foreign, at(1)) == []
    assert len(made) == 1


def test_a_receipt_that_comes_twice_counts_once() -> None:
    made = delivery(FIRST, SECOND)
    made.receipt(receipt(0), at(1))
    assert made.receipt(receipt(0), at(1)) == []
    assert len(made) == 1


@pytest.mark.parametrize(("chance", "until_s"), [(0.0, 140), (1.0, 150)])
def test_pace_puts_the_next_offer_off(chance: float, until_s: float) -> None:
    made = delivery(FIRST)
    made.advance(at(0))
    pace = Pace(outbox=OUTBOX, sequence=0, wait_s=40, reason="busy")
    assert kinds(made.pace(pace, at(100, chance))) == ["Log"]
    assert made.advance(at(until_s - 1)) == []
    assert told(made.advance(at(until_s))) == [FIRST]


def test_pace_for_a_foreign_update_puts_nothing_off() -> None:
    made = delivery(FIRST)
    pace = Pace(outbox=b"outbox-2", sequence=0, wait_s=40)
    assert made.pace(pace, at(0)) == []
    assert told(made.advance(at(0))) == [FIRST]


def test_updates_are_offered_in_the_order_of_their_sequence_numbers() -> None:
    made = delivery(THIRD, FIRST)
    made.add(SECOND, at(0))
    seen = []
    for _ in range(3):
        (offer,) = told(made.advance(at(0)))
        assert isinstance(offer, Offer)
        seen.append(offer.sequence)
        made.receipt(receipt(offer.sequence), at(0))
    assert seen == [0, 1, 2]
