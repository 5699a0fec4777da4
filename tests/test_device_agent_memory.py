"""What a device remembers is what was taken of it, or it begins anew as somebody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from config.sections import TrainingPlan
from device_agent.outbox import Outbox
from device_agent.trainer import outcome_bytes
from device_agent.vocabulary import Committed, Forget, Forgotten, Prepared, TrainingEnded
from federation.messages import Header, Offer, Reason, Receipt, Verdict
from federation.sizes import size_bounds
from federation.transfer import held_chunks
from tests.specimens import OUTBOX, TOPICS, a_header, a_layout, a_payload, an_offer
from tests.test_device_agent_core import PAYLOAD as MODEL
from tests.test_device_agent_core import Bench
from tests.test_device_agent_outbox import fill

PLAN = TrainingPlan(memory=True)
HEADER = a_header(version=7, plan=PLAN)
OUTCOME = TrainingEnded(7, 10, 5, 1.5, {})
PAYLOAD = a_payload(2500)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    opened = Outbox(tmp_path)
    yield opened
    opened.close()


def commit(outbox: Outbox, memory: bytes = b"memory", header: Header = HEADER) -> Offer:
    """Do what the worker does, and enter it."""
    payload, residual = outbox.next_paths()
    payload.write_bytes(PAYLOAD)
    if header.plan.memory:
        outbox.next_memory_path().write_bytes(memory)
    else:
        residual.write_bytes(b"rest")
    return outbox.commit(header, OUTCOME, 1024)


def files(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("outbox.sqlite"))


def remembered(outbox: Outbox, header: Header = HEADER) -> bytes | None:
    path = outbox.memory(header)
    return None if path is None else path.read_bytes()


def test_a_new_outbox_remembers_nothing(outbox: Outbox) -> None:
    assert outbox.memory(HEADER) is None


def test_a_candidate_is_not_the_memory_yet(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox)
    assert outbox.memory(HEADER) is None
    assert files(tmp_path) == ["0.memory", "0.update"]


def test_what_was_accepted_is_remembered(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox, b"first")
    outbox.forget(0, accepted=True)
    assert remembered(outbox) == b"first"
    commit(outbox, b"second")
    assert remembered(outbox) == b"first"
    outbox.forget(1, accepted=True)
    assert remembered(outbox) == b"second"
    assert files(tmp_path) == ["1.memory"]


def test_what_was_refused_is_not(outbox: Outbox, tmp_path: Path) -> None:
    commit(outbox, b"first")
    outbox.forget(0, accepted=True)
    commit(outbox, b"second")
    outbox.forget(1)
    assert remembered(outbox) == b"first"
    assert files(tmp_path) == ["0.memory"]


def test_a_verdict_that_comes_twice_changes_nothing_more(outbox: Outbox) -> None:
    commit(outbox, b"first")
    for accepted in (True, True, False):
        outbox.forget(0, accepted=accepted)
    assert remembered(outbox) == b"first"


def test_a_memory_and_its_candidate_survive_a_restart(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    commit(before, b"first")
    before.forget(0, accepted=True)
    commit(before, b"second")
    before.close()
    after = Outbox(tmp_path)
    assert after.identity == before.identity
    assert remembered(after) == b"first"
    after.forget(1, accepted=True)
    assert remembered(after) == b"second"
    after.close()


@pytest.mark.parametrize("accepted", [True, False])
def test_a_verdict_that_a_full_disk_did_not_take_is_known_after_a_restart(
    tmp_path: Path, accepted: bool, caplog: pytest.LogCaptureFixture
) -> None:
    before = Outbox(tmp_path)
    commit(before, b"first")
    before.forget(0, accepted=True)
    commit(before, b"second")
    original = fill(before)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        before.forget(1, accepted=accepted)
    assert (tmp_path / "1.update").stat().st_size <= 2, "its room is given back"
    original.close()
    after = Outbox(tmp_path)
    assert after.offers() == ()
    assert after.identity == before.identity
    assert remembered(after) == (b"second" if accepted else b"first")
    assert caplog.records == []
    after.close()


@pytest.mark.parametrize(
    "other",
    [
        a_header(version=7, plan=PLAN, ledger=b"ledger-2"),
        a_header(version=7, plan=PLAN, layout=tuple(a_layout(3).to_wire())),
    ],
    ids=["ledger", "layout"],
)
def test_a_memory_is_of_one_ledger_and_one_layout(
    outbox: Outbox, tmp_path: Path, other: Header
) -> None:
    commit(outbox, b"first")
    outbox.forget(0, accepted=True)
    assert outbox.memory(other) is None
    commit(outbox, b"second", other)
    assert files(tmp_path) == ["1.memory", "1.update"]
    outbox.forget(1, accepted=True)
    assert remembered(outbox, other) == b"second"
    assert outbox.memory(HEADER) is None


def test_an_update_without_a_memory_drops_what_was_remembered(
    outbox: Outbox, tmp_path: Path
) -> None:
    commit(outbox, b"first")
    outbox.forget(0, accepted=True)
    plain = a_header(version=8, ledger=b"ledger-2")
    commit(outbox, header=plain)
    assert files(tmp_path) == ["1.residual", "1.update"]
    commit(outbox, b"again", a_header(version=9, plan=PLAN, ledger=b"ledger-3"))
    assert files(tmp_path) == ["1.update", "2.memory", "2.update"], "there is no residual with it"
    assert outbox.residual() is None


def test_what_a_training_left_that_was_given_up_is_gone(outbox: Outbox, tmp_path: Path) -> None:
    outbox.next_memory_path().write_bytes(b"given up")
    outbox.next_paths()
    assert files(tmp_path) == []


def test_a_stray_memory_is_swept_away(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    commit(before, b"first")
    before.forget(0, accepted=True)
    before.close()
    (tmp_path / "5.memory").write_bytes(b"stray")
    Outbox(tmp_path).close()
    assert files(tmp_path) == ["0.memory"]


def test_a_commit_that_a_full_disk_refuses_keeps_the_candidate_for_the_next_attempt(
    outbox: Outbox, tmp_path: Path
) -> None:
    original = fill(outbox)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        commit(outbox, b"first")
    outbox._db = original
    assert files(tmp_path) == ["0.memory", "0.update"]
    outbox.commit(HEADER, OUTCOME, 1024)
    outbox.forget(0, accepted=True)
    assert remembered(outbox) == b"first"


# What nobody knows any more


@pytest.mark.parametrize("damage", [b"", b"altere", None])
def test_a_device_whose_memory_is_lost_or_altered_begins_anew(
    tmp_path: Path, damage: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    before = Outbox(tmp_path)
    commit(before)
    before.forget(0, accepted=True)
    before.close()
    path = tmp_path / "0.memory"
    path.unlink() if damage is None else path.write_bytes(damage)
    after = Outbox(tmp_path)
    assert after.identity != before.identity
    assert after.memory(HEADER) is None
    assert after.next_sequence() == 1
    assert files(tmp_path) == []
    assert "begins anew" in caplog.text
    after.close()
    again = Outbox(tmp_path)
    assert again.identity == after.identity
    again.close()


def test_who_begins_anew_still_delivers_what_waits_under_its_former_name(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    commit(before, b"first")
    before.forget(0, accepted=True)
    offer = commit(before, b"second")
    before.close()
    (tmp_path / "0.memory").unlink()
    after = Outbox(tmp_path)
    assert after.offers() == (offer,)
    assert offer.outbox == before.identity != after.identity
    assert len(held_chunks(tmp_path / "1.update", offer.payload)) == offer.payload.count
    after.forget(1, accepted=True)
    assert after.memory(HEADER) is None, "that was taken of another one"
    after.close()


@pytest.mark.parametrize("damage", [b"altered", b""])
def test_a_device_that_lost_an_update_which_may_have_been_taken_begins_anew(
    tmp_path: Path, damage: bytes
) -> None:
    before = Outbox(tmp_path)
    commit(before)
    before.close()
    (tmp_path / "0.update").write_bytes(damage)
    after = Outbox(tmp_path)
    assert after.offers() == ()
    assert after.identity != before.identity
    assert files(tmp_path) == []
    after.close()


def test_a_kill_while_it_begins_anew_leaves_no_memory_under_the_former_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = Outbox(tmp_path)
    commit(before, b"first")
    before.forget(0, accepted=True)
    commit(before, b"second")
    before.close()
    (tmp_path / "1.update").write_bytes(b"altered")

    def die(*_: Any, **__: Any) -> None:
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(Outbox, "forget", die)
        with pytest.raises(RuntimeError):
            Outbox(tmp_path)
    after = Outbox(tmp_path)
    assert after.identity != before.identity
    assert after.memory(HEADER) is None
    assert (after.offers(), files(tmp_path)) == ((), [])
    after.close()


def test_a_device_that_drops_what_has_no_noise_begins_anew(outbox: Outbox, tmp_path: Path) -> None:
    former = outbox.identity
    commit(outbox)
    outbox.drop_bare()
    assert outbox.identity != former
    assert files(tmp_path) == []


def test_without_a_memory_a_lost_update_changes_nobody(tmp_path: Path) -> None:
    before = Outbox(tmp_path)
    commit(before, header=a_header(version=7))
    before.close()
    (tmp_path / "0.update").unlink()
    after = Outbox(tmp_path)
    assert after.identity == before.identity
    after.close()


# When it may train


def trained(bench: Bench, version: int) -> None:
    header = a_header(MODEL, version=version, plan=PLAN)
    bench.hear(TOPICS.model, header)
    bench(Prepared(header, frozenset({0, 1})))
    bench(TrainingEnded(version, 10, 5, 1.0, {}))
    bench(Committed(an_offer(sequence=version, base_version=version)))


def judged(verdict: Verdict, reason: Reason | None = None) -> Receipt:
    return Receipt(outbox=OUTBOX, sequence=0, verdict=verdict, reason=reason)


def started(effects: list[Any]) -> bool:
    return any(type(effect).__name__ == "Prepare" for effect in effects)


@pytest.mark.parametrize(
    ("receipt", "accepted"),
    [
        (judged(Verdict.ACCEPTED), True),
        (judged(Verdict.KNOWN), True),
        *((judged(Verdict.REFUSED, reason), False) for reason in Reason),
    ],
)
def test_a_device_trains_again_once_it_is_written_down_what_became_of_the_last_update(
    receipt: Receipt, accepted: bool
) -> None:
    bench = Bench(outbox_limit=4).begin()
    trained(bench, 0)
    assert not started(bench.hear(TOPICS.model, a_header(MODEL, version=1, plan=PLAN)))
    effects = bench.hear(TOPICS.down("one"), receipt)
    assert Forget(0, accepted=accepted) in effects
    assert not started(effects), "its memory is not known before that is on disk"
    assert started(bench(Forgotten(0)))


def test_without_a_memory_it_trains_on_while_updates_wait() -> None:
    bench = Bench(outbox_limit=4).begin()
    bench.train(0)
    assert started(bench.hear(TOPICS.model, a_header(MODEL, version=1)))


def test_room_is_asked_for_the_memory_too() -> None:
    elements = len(MODEL) // 4
    for codec, sent in (("float32", 4 * elements), ("int8", elements + 4 * 2)):
        plan = TrainingPlan(memory=True, codec=codec)
        assert outcome_bytes(a_header(MODEL, plan=plan)) == sent + 4 * elements


def test_room_is_asked_for_the_most_that_an_update_may_take() -> None:
    elements = len(MODEL) // 4
    header = a_header(MODEL, plan=TrainingPlan(codec="int4+zlib"))
    assert outcome_bytes(header) == size_bounds("int4+zlib", elements)[1] + 4 * elements
