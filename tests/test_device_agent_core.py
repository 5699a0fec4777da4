"""The whole agent as a pure machine: its presence, its links, and what it hears."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from config.failures import ExitCode
from device_agent.core import AgentCore
from device_agent.presence import Self
from device_agent.silence import HELLO_CAP_S, HELLO_S
from device_agent.vocabulary import Committed, Look, Looked, Prepared, TrainingEnded
from device_agent.work import Phase
from federation.machine import Linked, Log, Stop, Tick, Unlinked
from federation.messages import (
    Chunk,
    DevicePresence,
    Hello,
    Offer,
    Receipt,
    Request,
    State,
    Verdict,
    Want,
    encode,
)
from tests.specimens import (
    LEDGER,
    OUTBOX,
    PROCESS,
    TOPICS,
    TRANSFER,
    a_birth,
    a_coordinator,
    a_header,
    a_payload,
    an_offer,
    at,
    heard,
    kinds,
    told,
)

BOOT = 2
MINE = BOOT << 24
HERE, UP, DOWN = TOPICS.device("one"), TOPICS.up("one"), TOPICS.down("one")
PAYLOAD = a_payload(2048)


class Bench:
    """A core, a clock that the test sets, and the effects of each event."""

    def __init__(self, *offers: Offer, outbox_limit: int = 2, **fields: Any) -> None:
        me = Self("one", OUTBOX, PROCESS, BOOT, "task", "1.0")
        self.core = AgentCore(me, TOPICS, TRANSFER, outbox_limit, offers, **fields)
        self.now_s = 0.0
        self.hindrance = ""

    def __call__(self, event: Any, chance: float = 0.0) -> list[Any]:
        effects = list(self.core.handle(event, at(self.now_s, chance)))
        self.core.validate()
        # The machine is looked at at once.
        looks = [effect for effect in effects if isinstance(effect, Look)]
        effects = [effect for effect in effects if effect not in looks]
        return [*effects, *(one for _ in looks for one in self(Looked(self.hindrance)))]

    def hear(self, topic: str, message: Any, retained: bool = False) -> list[Any]:
        return self(heard(topic, message, retained))

    def wait(self) -> list[Any]:
        """Let time pass until the core wants to look again."""
        self.now_s = self.core.next_tick_s
        return self(Tick())

    def begin(self, connection: int = 1) -> Bench:
        """Link, and hear the own birth."""
        self(Linked(MINE + connection))
        self.hear(HERE, birth(connection))
        return self

    def train(self, version: int) -> list[Any]:
        """Train on a version that is in the store, and commit what comes of it."""
        self.hear(TOPICS.model, a_header(PAYLOAD, version=version))
        self(Prepared(a_header(PAYLOAD, version=version), frozenset({0, 1})))
        assert kinds(self(TrainingEnded(version, 10, 5, 1.0, {}))) == ["Commit"]
        return self(Committed(an_offer(sequence=version, base_version=version)))


def birth(connection: int = 1, **fields: Any) -> DevicePresence:
    return a_birth(MINE + connection, agent="1.0", task="task", **fields)


# Presence


def test_a_device_is_born_on_every_link() -> None:
    bench = Bench()
    for connection in (1, 2, 3):
        births = told(bench(Linked(MINE + connection)), HERE)
        while not births:
            births = told(bench.wait(), HERE)
        assert births == [birth(connection)]
        bench.hear(HERE, birth(connection))
        bench(Unlinked("gone"))


def test_its_own_birth_tells_a_device_nothing() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    assert bench.hear(HERE, birth()) == []


def test_whoever_hears_another_born_after_itself_yields() -> None:
    bench = Bench().begin()
    (stop,) = bench.hear(HERE, a_birth(7, outbox=b"outbox-2", process=b"process2"))
    assert isinstance(stop, Stop)
    assert stop.exit_code == ExitCode.DUPLICATE
    assert "'one'" in stop.text


def test_who_was_there_before_is_not_heard_as_a_birth_after_one_s_own() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    other = a_birth(7, outbox=b"outbox-2", process=b"process2")
    assert bench.hear(HERE, other, retained=True) == []


def test_two_agents_on_one_id_end_with_the_last_born() -> None:
    first, second = Bench().begin(), Bench()
    newer = birth(process=b"process2", outbox=b"outbox-2")
    second.core = AgentCore(
        Self("one", b"outbox-2", b"process2", BOOT, "task", "1.0"), TOPICS, TRANSFER, 2
    )
    # The second one hears the first's birth as retained, then its own; the first hears the second.
    assert told(second(Linked(MINE + 1)), HERE) == [newer]
    assert "Stop" not in kinds(second.hear(HERE, birth(), retained=True))
    assert "Stop" in kinds(first.hear(HERE, newer))
    assert "Stop" not in kinds(second.hear(HERE, newer))


def test_an_agent_that_was_taken_down_and_comes_back_yields_to_the_will_of_the_other() -> None:
    bench = Bench().begin()
    bench(Unlinked("taken over"))
    bench(Linked(MINE + 2))
    will = a_birth(7, outbox=b"outbox-2", process=b"process2", state=State.OFFLINE)
    assert "Stop" in kinds(bench.hear(HERE, will, retained=True))


def test_the_late_will_of_a_predecessor_drives_nobody_away_and_is_not_the_last_word() -> None:
    bench = Bench().begin()
    will = a_birth(7, outbox=b"outbox-2", process=b"process2", state=State.OFFLINE)
    assert told(bench.hear(HERE, will), HERE) == [birth(1)]


@pytest.mark.parametrize("state", [State.ONLINE, State.OFFLINE])
@pytest.mark.parametrize("retained", [False, True])
def test_an_agent_does_not_run_from_its_own_past(state: State, retained: bool) -> None:
    bench = Bench().begin()
    past = a_birth(((BOOT - 1) << 24) + 3, process=b"process0", state=state)
    assert bench.hear(HERE, past, retained) == []


def test_a_copy_of_the_disk_that_was_started_more_often_is_another_agent() -> None:
    bench = Bench().begin()
    copy = a_birth(((BOOT + 1) << 24) + 1, process=b"process2")
    assert kinds(bench.hear(HERE, copy)) == ["Stop"]


# Hello


def test_a_device_that_heard_no_header_says_hello_after_a_moment() -> None:
    bench = Bench()
    bench(Linked(MINE + 1), chance=0.5)
    assert bench.core.next_tick_s == 1.5 * TRANSFER.patience_s
    assert told(bench.wait(), UP) == [Hello(incarnation=MINE + 1)]


def test_hello_is_repeated_ever_more_seldom() -> None:
    bench = Bench()
    bench(Linked(MINE + 1))
    bench.wait()
    waits = []
    for _ in range(6):
        began_s = bench.now_s
        assert told(bench.wait(), UP) == [Hello(incarnation=MINE + 1)]
        waits.append(bench.now_s - began_s)
    # 60, 120, 240, 480, 600 and 600 seconds, less a quarter as chance is zero.
    assert waits == [45, 90, 180, 360, 450, 450]
    assert waits[-1] == 0.75 * HELLO_CAP_S


def test_a_header_makes_hello_unnecessary_for_a_while() -> None:
    bench = Bench(trained=(LEDGER, 0)).begin()
    bench.hear(TOPICS.model, a_header(PAYLOAD))
    assert bench.core.next_tick_s == HELLO_S
    assert told(bench.wait(), UP) == [Hello(incarnation=MINE + 1, ledger=LEDGER, version=0)]


def test_an_answer_to_hello_makes_the_next_one_early_again() -> None:
    bench = Bench().begin()
    for _ in range(4):
        bench.wait()
    bench.hear(DOWN, a_coordinator(9))
    assert bench.core.next_tick_s == bench.now_s + HELLO_S
    bench.wait()
    assert bench.core.next_tick_s == bench.now_s + 0.75 * HELLO_S


def test_words_that_are_repeated_do_not_put_hello_off() -> None:
    bench = Bench(trained=(LEDGER, 0)).begin()
    bench.hear(TOPICS.model, a_header(PAYLOAD))
    for _ in range(20):
        bench.now_s += 2
        bench.hear(TOPICS.model, a_header(PAYLOAD))
        bench.hear(DOWN, a_header(PAYLOAD))
        bench.hear(DOWN, a_coordinator(9))
    assert bench.core.next_tick_s == HELLO_S


def test_without_a_link_nothing_is_said() -> None:
    bench = Bench(an_offer()).begin()
    bench(Unlinked("gone"))
    assert bench.core.next_tick_s == inf
    bench.now_s = 1e6
    assert bench(Tick()) == []


# The coordinator's presence


def test_offers_wait_while_the_coordinator_is_offline() -> None:
    bench = Bench(an_offer()).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9))
    lines = bench.hear(TOPICS.coordinator, a_coordinator(9, state=State.OFFLINE))
    assert [line.text for line in lines] == ["coordinator offline"]
    bench.now_s = 20
    assert an_offer() not in told(bench(Tick()), UP)
    assert told(bench.hear(TOPICS.coordinator, a_coordinator(10)), UP) == [an_offer()]


def test_the_late_will_of_an_earlier_connection_of_the_coordinator_is_not_believed() -> None:
    bench = Bench().begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9))
    assert bench.hear(TOPICS.coordinator, a_coordinator(8, state=State.OFFLINE)) == []
    assert bench.core.delivery.open


def test_the_late_will_of_an_earlier_coordinator_is_not_believed() -> None:
    bench = Bench().begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9))
    gone = a_coordinator(99, ledger=b"ledger-0", state=State.OFFLINE)
    assert bench.hear(TOPICS.coordinator, gone) == []
    assert bench.core.delivery.open


def test_a_coordinator_that_comes_back_is_offered_everything_again() -> None:
    bench = Bench(an_offer()).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9))
    assert told(bench.hear(TOPICS.coordinator, a_coordinator(10)), UP) == [an_offer()]
    assert bench.hear(TOPICS.coordinator, a_coordinator(10)) == [], "it said so already"


def test_whoever_answers_is_there_whatever_its_presence_says() -> None:
    bench = Bench(an_offer()).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9, state=State.OFFLINE))
    assert told(bench.hear(DOWN, a_coordinator(9)), UP) == [an_offer()]


# Work and delivery side by side


def test_a_device_trains_on_while_its_last_update_is_on_its_way() -> None:
    bench = Bench().begin()
    assert told(bench.train(0), UP) == [an_offer(sequence=0)]
    bench.hear(TOPICS.model, a_header(PAYLOAD, version=1))
    assert bench.core.work.phase is Phase.FETCHING


def test_a_full_outbox_is_back_pressure_until_a_receipt_comes() -> None:
    bench = Bench(outbox_limit=2).begin()
    bench.train(0)
    bench.train(1)
    bench.hear(TOPICS.model, a_header(PAYLOAD, version=2))
    assert bench.core.work.phase is Phase.WAITING
    receipt = Receipt(outbox=OUTBOX, sequence=0, verdict=Verdict.ACCEPTED)
    effects = kinds(bench.hear(DOWN, receipt))
    assert "Forget" in effects
    assert "Prepare" in effects


def test_offers_of_before_a_restart_are_offered_on_the_first_link() -> None:
    bench = Bench(an_offer(sequence=3), an_offer(sequence=4))
    assert told(bench(Linked(MINE + 1)), UP) == [an_offer(sequence=3)]


def test_training_goes_on_without_a_link_and_delivers_when_it_is_back() -> None:
    bench = Bench().begin()
    bench.hear(TOPICS.model, a_header(PAYLOAD))
    bench(Prepared(a_header(PAYLOAD, version=0), frozenset({0, 1})))
    bench(Unlinked("gone"))
    assert kinds(bench(TrainingEnded(0, 10, 5, 1.0, {}))) == ["Commit"]
    assert kinds(bench(Committed(an_offer()))) == ["Log"]
    assert told(bench(Linked(MINE + 2)), UP) == [an_offer()]


def test_the_log_tells_what_went_into_the_outbox() -> None:
    bench = Bench().begin()
    (line, *_) = [e for e in bench.train(0) if isinstance(e, Log)]
    assert line.text == "update in outbox"
    assert line.facts == {
        "version": 0,
        "sequence": 0,
        "bytes": 8,
        "train_s": 1.0,
        "examples": 10,
        "loss": 0.5,
    }


# What is not for it


@pytest.mark.parametrize(
    ("topic", "payload", "count"),
    [
        ("flockwise/other/model", encode(a_header(PAYLOAD)), "foreign topic"),
        (TOPICS.device("two"), encode(birth()), "unexpected message"),
        (TOPICS.down("two"), encode(a_coordinator(9)), "unexpected message"),
        (UP, encode(an_offer()), "unexpected message"),
        (DOWN, encode(birth()), "unexpected message"),
        (DOWN, encode(Hello(incarnation=1)), "unexpected message"),
        (DOWN, encode(an_offer()), "unexpected message"),
        (DOWN, encode(Request(version=0, chunks=(0,))), "unexpected message"),
        (TOPICS.model, encode(a_coordinator(9)), "unexpected message"),
        (TOPICS.coordinator, encode(a_header(PAYLOAD)), "unexpected message"),
        (TOPICS.model_chunk(0, 0), Chunk(0, 0, b"x").encode(), "unexpected message"),
        (TOPICS.model, b"\xff" * 20, "malformed message"),
        (HERE, b"", "malformed message"),
    ],
)
def test_what_has_no_business_here_is_counted_and_told(
    topic: str, payload: bytes, count: str
) -> None:
    bench = Bench().begin()
    (line,) = bench.hear(topic, payload)
    assert isinstance(line, Log)
    assert bench.core.counts == {count: 1}


def test_what_no_coordinator_says_is_no_sign_of_one() -> None:
    bench = Bench(an_offer()).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(9, state=State.OFFLINE))
    due_s = bench.core.next_tick_s
    bench.hear(DOWN, an_offer())
    assert not bench.core.delivery.open
    assert bench.core.next_tick_s == due_s


def test_a_want_of_another_outbox_sends_nothing() -> None:
    bench = Bench(an_offer()).begin()
    want = Want(outbox=b"outbox-2", sequence=0, chunks=(0,))
    assert "SendChunk" not in kinds(bench.hear(DOWN, want))


# Alone, and unfit


def test_alone_for_long_it_trains_again_until_the_outbox_is_full() -> None:
    bench = Bench(outbox_limit=3, alone_after_s=60.0).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(1))
    bench.train(5)
    bench(Unlinked("gone"))
    assert bench.core.next_tick_s == bench.now_s + 60
    effects = bench.wait()
    for sequence in (6, 7):
        assert "Prepare" in kinds(effects)
        bench(Prepared(a_header(PAYLOAD, version=5), frozenset({0, 1})))
        assert kinds(bench(TrainingEnded(5, 10, 5, 1.0, {}))) == ["Commit"]
        effects = bench(Committed(an_offer(sequence=sequence, base_version=5)))
    assert "Prepare" not in kinds(effects), "the outbox is full"
    assert bench.core.next_tick_s > bench.now_s, "and it does not spin"


def test_no_more_is_made_on_one_version_than_its_staleness_lets_in() -> None:
    bench = Bench(outbox_limit=3, alone_after_s=0.0).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(1))
    head = a_header(PAYLOAD, version=5, max_staleness=0)
    bench.hear(TOPICS.model, head)
    bench(Prepared(head, frozenset({0, 1})))
    bench(TrainingEnded(5, 10, 5, 1.0, {}))
    bench(Committed(an_offer(sequence=0, base_version=5)))
    assert "Prepare" not in kinds(bench(Unlinked("gone")))


def test_with_the_coordinator_there_each_version_is_trained_on_once() -> None:
    bench = Bench(alone_after_s=60.0).begin()
    bench.hear(TOPICS.coordinator, a_coordinator(1))
    bench.train(5)
    for _ in range(10):
        bench.hear(DOWN, a_coordinator(1))
        assert "Prepare" not in kinds(bench.wait())


def test_an_unfit_machine_is_told_in_the_presence_and_trains_when_it_is_fit() -> None:
    bench = Bench().begin()
    bench.hindrance = "too hot: 80 °C, at most 70"
    effects = bench.hear(TOPICS.model, a_header(PAYLOAD, version=5))
    assert "Prepare" not in kinds(effects)
    assert [p.paused for p in told(effects, HERE)] == ["too hot"]  # type: ignore[union-attr]
    bench.hindrance = ""
    effects = []
    while "Prepare" not in kinds(effects):
        effects = bench.wait()
    assert [p.paused for p in told(effects, HERE)] == [""]  # type: ignore[union-attr]


def test_a_training_is_paused_when_the_machine_becomes_unfit() -> None:
    bench = Bench().begin()
    bench.hear(TOPICS.model, a_header(PAYLOAD, version=5))
    bench(Prepared(a_header(PAYLOAD, version=5), frozenset({0, 1})))
    bench.hindrance = "on battery"
    effects = []
    while "Pause" not in kinds(effects):
        effects = bench.wait()
    assert bench.core.work.phase is Phase.WAITING


def test_a_newcomer_that_is_given_nothing_retained_hears_the_birth_again() -> None:
    bench = Bench().begin()
    assert told(bench.hear(TOPICS.coordinator, a_coordinator(1)), HERE) == [birth()]
