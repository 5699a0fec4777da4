"""The work of a device: each version once, no hopeless one, and never in vain for ever."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from device_agent.vocabulary import (
    Abandon,
    Commit,
    Prepare,
    Prepared,
    Train,
    TrainingEnded,
    TrainingFailed,
)
from device_agent.work import ATTEMPTS_PER_VERSION, RETRY_TRAINING_S, Phase, VersionKey, Work
from federation.invitation import is_invited
from federation.machine import Log, Subscribe, Unsubscribe
from federation.messages import Chunk, Header
from tests.specimens import LEDGER, TOPICS, TRANSFER, a_header, a_payload, at, kinds

PAYLOAD = a_payload(2048)  # two chunks
OTHER = b"ledger-2"


def work(done: VersionKey | None = None) -> Work:
    return Work("one", "task", TOPICS, TRANSFER, done, None)


def header(version: int = 0, **fields: Any) -> Header:
    return a_header(PAYLOAD, **{"version": version, **fields})


def ended(version: int = 0) -> TrainingEnded:
    return TrainingEnded(version, 10, 5, 1.0, {})


def texts(effects: Any) -> list[str]:
    return [effect.text for effect in effects if isinstance(effect, Log)]


def training(version: int = 0, **fields: Any) -> Work:
    """Work that has fetched a version and trains on it."""
    one = work()
    one.announced(header(version, **fields))
    assert kinds(one.go_on(True, True, at())) == ["Prepare"]
    one.prepared(Prepared(header(version, **fields), frozenset({0, 1})))
    assert kinds(one.go_on(True, True, at())) == ["Log", "Train"]
    return one


def fetching(version: int = 0) -> Work:
    """Work that fetches a version, with subscriptions open."""
    one = work()
    one.announced(header(version))
    one.go_on(True, True, at())
    one.prepared(Prepared(header(version), frozenset()))
    assert kinds(one.go_on(True, True, at())) == ["Subscribe"]
    return one


def test_the_phases_follow_each_other_and_end_where_they_began() -> None:
    one = work()
    assert one.phase is Phase.WAITING
    assert texts(one.announced(header(3))) == ["version announced"]
    assert one.go_on(True, True, at()) == [Prepare(header(3))]
    assert one.phase is Phase.FETCHING
    one.prepared(Prepared(header(3), frozenset()))
    one.go_on(True, True, at())
    for index in (0, 1):
        piece = PAYLOAD[1024 * index : 1024 * (index + 1)]
        assert one.chunk(Chunk(3, index, piece), index, at())
    assert kinds(one.go_on(True, True, at())) == ["Unsubscribe", "Log", "Train"]
    assert one.phase is Phase.TRAINING
    assert one.ended(ended(3)) == [Commit(header(3), ended(3))]
    one.committed((LEDGER, 3))
    assert one.phase is Phase.WAITING
    assert one.go_on(True, True, at()) == [], "each version once"


def test_a_version_that_is_in_the_store_needs_no_link() -> None:
    one = work()
    one.announced(header())
    one.go_on(True, False, at())
    one.prepared(Prepared(header(0), frozenset({0, 1})))
    assert kinds(one.go_on(True, False, at())) == ["Log", "Train"]


def test_fetching_waits_for_a_link() -> None:
    one = work()
    one.announced(header())
    one.go_on(True, False, at())
    one.prepared(Prepared(header(0), frozenset()))
    assert one.go_on(True, False, at()) == []
    assert one.due_s(linked=False) == inf
    assert kinds(one.go_on(True, True, at())) == ["Subscribe"]


def test_a_full_outbox_holds_new_work_back_and_not_the_one_under_way() -> None:
    one = work()
    one.announced(header())
    assert one.go_on(False, True, at()) == []
    assert one.go_on(True, True, at()) == [Prepare(header())]
    one.prepared(Prepared(header(0), frozenset({0, 1})))
    assert kinds(one.go_on(False, True, at())) == ["Log", "Train"]


def test_what_was_trained_before_a_restart_is_not_trained_again() -> None:
    one = work(done=(LEDGER, 4))
    one.announced(header(4))
    assert one.go_on(True, True, at()) == []
    one.announced(header(5))
    assert one.go_on(True, True, at()) == [Prepare(header(5))]


def test_the_same_number_in_another_ledger_is_another_version() -> None:
    one = work(done=(LEDGER, 4))
    one.announced(header(4, ledger=OTHER))
    assert kinds(one.go_on(True, True, at())) == ["Prepare"]


@pytest.mark.parametrize(("version", "draw"), [(4, 2), (4, 1), (3, 9)])
def test_a_header_that_is_not_newer_tells_nothing(version: int, draw: int) -> None:
    one = work()
    one.announced(header(4, draw=2))
    assert one.announced(header(version, draw=draw)) is None
    assert one.newest == header(4, draw=2)


def test_a_device_that_is_not_invited_says_so_once_and_waits() -> None:
    version = next(v for v in range(99) if not is_invited("one", v, 0, 0.1))
    one = work()
    one.announced(header(version, invited=0.1))
    assert texts(one.go_on(True, True, at())) == ["not invited"]
    assert one.go_on(True, True, at()) == []
    assert one.phase is Phase.WAITING


def test_a_new_draw_may_invite_a_device_that_was_left_out() -> None:
    draws = [draw for draw in range(99) if is_invited("one", 5, draw, 0.3)]
    assert 0 not in draws
    one = work()
    one.announced(header(5, invited=0.3))
    one.go_on(True, True, at())
    one.announced(header(5, invited=0.3, draw=draws[0]))
    assert kinds(one.go_on(True, True, at())) == ["Prepare"]


def test_a_version_of_another_task_is_declined_once() -> None:
    one = work()
    one.announced(header(task="weather"))
    (line,) = one.go_on(True, True, at())
    assert isinstance(line, Log)
    assert line.text == "version cannot be used"
    assert line.facts == {"fault": "it is of the task weather, ours is task"}
    assert one.go_on(True, True, at()) == []


def test_a_newer_version_does_not_disturb_work_that_still_counts() -> None:
    one = training(0, max_staleness=5)
    assert texts(one.announced(header(5, max_staleness=5))) == ["version announced"]
    assert one.phase is Phase.TRAINING
    one.ended(ended(0))
    one.committed((LEDGER, 0))
    assert one.go_on(True, True, at()) == [Prepare(header(5, max_staleness=5))]


def test_training_whose_update_would_be_refused_is_abandoned() -> None:
    one = training(0)
    effects = one.announced(header(6, max_staleness=5)) or []
    assert Abandon() in effects
    assert texts(effects) == ["version announced", "version overtaken"]
    assert kinds(one.go_on(True, True, at())) == ["Prepare"]


def test_training_for_another_ledger_is_abandoned() -> None:
    assert Abandon() in (training(0).announced(header(0, ledger=OTHER)) or [])


def test_fetching_what_would_be_refused_gives_its_subscriptions_back() -> None:
    effects = fetching(0).announced(header(9, max_staleness=0)) or []
    assert any(isinstance(effect, Unsubscribe) for effect in effects)
    assert Abandon() not in effects


def test_the_late_end_of_abandoned_training_is_ignored() -> None:
    one = training(0)
    one.announced(header(9, max_staleness=0))
    assert one.ended(ended(0)) == []
    assert one.failed(TrainingFailed(0, "killed"), at()) == []
    one.go_on(True, True, at())
    assert one.phase is Phase.FETCHING
    assert one.ended(ended(9)) == [], "it is not trained on yet"


def test_a_store_that_answers_for_another_version_is_not_believed() -> None:
    one = work()
    one.announced(header(3))
    one.go_on(True, True, at())
    one.prepared(Prepared(header(2), frozenset({0, 1})))
    assert one.go_on(True, True, at()) == []
    assert one.phase is Phase.FETCHING


def test_a_chunk_is_unexpected_while_nothing_is_fetched() -> None:
    assert work().chunk(Chunk(0, 0, PAYLOAD[:1024]), 0, at()) is None
    assert training().chunk(Chunk(0, 0, PAYLOAD[:1024]), 0, at()) is None


def test_training_that_failed_is_tried_again_after_a_while() -> None:
    one = training()
    (line,) = one.failed(TrainingFailed(0, "out of memory"), at(100, chance=0.5))
    assert isinstance(line, Log)
    assert (line.text, line.facts) == (
        "training failed",
        {"version": 0, "reason": "out of memory"},
    )
    assert one.due_s(linked=True) == 100 + RETRY_TRAINING_S
    assert one.go_on(True, True, at(100)) == []
    assert one.go_on(True, True, at(100 + RETRY_TRAINING_S)) == [Prepare(header())]


def fail_until_given_up(one: Work) -> float:
    now_s = 0.0
    for attempt in range(ATTEMPTS_PER_VERSION):
        assert one.phase is Phase.TRAINING, attempt
        one.failed(TrainingFailed(0, "no luck"), at(now_s))
        now_s += RETRY_TRAINING_S
        if one.go_on(True, True, at(now_s)):
            one.prepared(Prepared(header(0), frozenset({0, 1})))
            one.go_on(True, True, at(now_s))
    return now_s


def test_training_that_fails_again_and_again_is_given_up() -> None:
    one = training()
    now_s = fail_until_given_up(one)
    assert one.phase is Phase.WAITING
    assert one.go_on(True, True, at(now_s + 1e6)) == []


def test_work_that_was_given_up_asks_for_no_more_time() -> None:
    one = training()
    fail_until_given_up(one)
    assert one.due_s(linked=True) == inf, "a time that is past would be asked for again and again"


def test_a_new_version_is_a_new_chance() -> None:
    one = training()
    now_s = fail_until_given_up(one)
    one.announced(header(1))
    assert one.go_on(True, True, at(now_s)) == [Prepare(header(1))]


def test_a_version_that_nobody_serves_is_given_up_for_a_newer_one() -> None:
    one = fetching(0)
    one.announced(header(1))
    effects: list[Any] = []
    while "version given up" not in texts(effects):
        effects = one.go_on(True, True, at(one.due_s(linked=True)))
    assert effects[-1] == Prepare(header(1))


def test_a_version_that_nobody_serves_is_waited_for_while_it_is_the_newest() -> None:
    one = fetching(0)
    for _ in range(20):
        effects = one.go_on(True, True, at(one.due_s(linked=True)))
        assert "version given up" not in texts(effects)
    assert one.phase is Phase.FETCHING


def test_a_new_link_asks_anew_for_what_is_missing() -> None:
    one = fetching(0)
    one.relink()
    assert any(isinstance(e, Subscribe) for e in one.go_on(True, True, at(1)))


def test_training_goes_to_the_version_that_was_fetched_whatever_came_since() -> None:
    one = fetching(0)
    one.announced(header(1))
    for index in (0, 1):
        piece = PAYLOAD[1024 * index : 1024 * (index + 1)]
        one.chunk(Chunk(0, index, piece), index, at())
    assert Train(header(0)) in one.go_on(True, True, at())


def test_a_version_that_is_declined_after_a_failure_asks_for_no_more_time() -> None:
    one = training()
    one.failed(TrainingFailed(0, "no luck"), at())
    one.announced(header(1, task="another"))
    late = at(10 * RETRY_TRAINING_S)
    assert texts(one.go_on(True, True, late)) == ["version cannot be used"]
    assert one.due_s(linked=True) == inf, "else the agent would tick without pause"


def test_what_a_later_start_of_the_coordinator_says_of_the_same_version_is_news() -> None:
    one = work()
    one.announced(header(3, boot=1))
    assert one.announced(header(3, boot=1)) is None
    assert texts(one.announced(header(3, boot=2))) == ["version announced"]
    assert texts(one.announced(header(2, boot=3))) == ["version announced"], "from a backup"
    assert one.announced(header(4, boot=2)) is None, "what an earlier start said comes late"


@pytest.mark.parametrize("wrong", [{"codec": "zip"}, {"codec": "int8"}])
def test_a_version_of_another_size_than_it_tells_is_declined_before_room_is_made(
    wrong: dict[str, str],
) -> None:
    one = work()
    one.announced(header(1, **wrong))
    assert texts(one.go_on(True, True, at())) == ["version cannot be used"]
    assert one.go_on(True, True, at()) == []


# Again, and later


def test_while_nobody_is_there_a_version_is_trained_on_again() -> None:
    one = training(3)
    one.ended(ended(3))
    one.committed((LEDGER, 3))
    assert one.go_on(True, False, at(5)) == []
    assert kinds(one.go_on(True, False, at(6), again=True)) == ["Prepare"]


def test_a_version_that_training_always_failed_on_is_not_tried_again_even_then() -> None:
    one = training(3)
    for n in range(ATTEMPTS_PER_VERSION):
        now = at(n * 10 * RETRY_TRAINING_S)
        if n:
            one.go_on(True, True, now)
            one.prepared(Prepared(header(3), frozenset({0, 1})))
            one.go_on(True, True, now)
        one.failed(TrainingFailed(3, "no luck"), now)
    assert one.go_on(True, False, at(1e6), again=True) == []


def test_an_unfit_machine_begins_nothing_and_says_that_it_would() -> None:
    one = work()
    one.announced(header(3))
    assert one.go_on(True, True, at(), fit=False) == []
    assert one.is_held_back
    assert kinds(one.go_on(True, True, at())) == ["Prepare"]
    assert not one.is_held_back


def test_a_training_pauses_and_goes_on_before_any_newer_version() -> None:
    one = training(3)
    assert kinds(one.pause("too hot")) == ["Pause", "Log"]
    assert one.phase is Phase.WAITING
    one.announced(header(4))
    assert one.go_on(True, True, at(), fit=False) == []
    assert one.go_on(True, True, at()) == [Prepare(header(3))]


def test_a_paused_training_that_would_be_stale_by_now_is_dropped() -> None:
    one = training(3)
    one.pause("too hot")
    one.announced(header(100))
    assert one.go_on(True, True, at()) == [Prepare(header(100))]


def test_a_training_that_an_earlier_start_began_goes_on_before_any_newer_version() -> None:
    one = Work("one", "task", TOPICS, TRANSFER, None, header(3), header(3), header(3))
    one.announced(header(4))
    assert one.go_on(True, True, at(), fit=False) == [], "the machine was not looked at yet"
    assert one.go_on(True, True, at()) == [Prepare(header(3))]


@pytest.mark.parametrize(
    ("why", "done", "begun", "newest"),
    [
        ("it was done", (LEDGER, 3), header(3), header(4)),
        ("it would be refused as stale", None, header(3), header(100)),
        ("it cannot be used any more", None, header(3, task="other"), header(4)),
        ("there is none", None, None, header(4)),
    ],
)
def test_a_training_that_an_earlier_start_began_is_not_gone_on_with_in_vain(
    why: str, done: VersionKey | None, begun: Header | None, newest: Header
) -> None:
    one = Work("one", "task", TOPICS, TRANSFER, done, begun, begun, begun)
    one.announced(newest)
    effects = one.go_on(True, True, at()) + one.go_on(True, True, at())
    assert effects[-1] == Prepare(newest), why


def test_what_is_trained_already_does_not_pause() -> None:
    one = training(3)
    one.ended(ended(3))
    assert one.pause("too hot") == []
    assert one.phase is Phase.TRAINING
