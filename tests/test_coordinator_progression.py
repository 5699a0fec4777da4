"""How one version follows another, and how the last one ends it."""

from __future__ import annotations

from math import inf
from typing import Any

from config.settings import CoordinatorSettings
from coordinator.progression import Progression
from coordinator.vocabulary import (
    Accepted,
    Announce,
    Clean,
    Combine,
    Combined,
    Evaluate,
    Evaluated,
    Recollection,
    Report,
)
from federation.invitation import is_invited
from federation.machine import Log, Stop
from federation.messages import Header, decode
from tests.specimens import LEDGER, OUTBOX, a_version, accepted, at, kinds

TEN = {f"device-{n}": 1 for n in range(10)}


def progression(
    aggregation: dict[str, Any] | None = None, buffer: tuple[Accepted, ...] = (), **fields: Any
) -> Progression:
    rule = {"buffer_size": 2, "deadline_s": 30, "cooldown": 0, **(aggregation or {})}
    settings = CoordinatorSettings(task="task", aggregation=rule, **fields)
    return Progression(settings, Recollection(LEDGER, a_version(0), {}, buffer), boot=2)


def make(made: Progression, version: int, now_s: float = 0.0, linked: bool = True) -> Any:
    """Let the version be made of two updates on the one before."""
    for n in range(2):
        made.accept(accepted(f"device-{n}", version, version - 1), at(now_s))
    (combine,) = made.go_on(TEN.keys(), linked, at(now_s))
    return made.combined(Combined(a_version(version), combine.contributions), linked, at(now_s))


def headers(effects: Any) -> list[Header]:
    found = [decode(e.header) for e in effects if isinstance(e, Announce)]
    return [header for header in found if isinstance(header, Header)]


def test_nothing_is_made_before_the_first_version_is_announced() -> None:
    waiting = progression(buffer=(accepted("a"), accepted("b")))
    assert waiting.go_on(TEN.keys(), True, at()) == []
    waiting.announce(at())
    assert kinds(waiting.go_on(TEN.keys(), True, at())) == ["Combine"]


def test_the_header_tells_all_that_a_device_has_to_know() -> None:
    one = progression({"fraction": 0.5, "max_staleness": 4}, transfer={"slots": 3})
    (header,) = headers(one.announce(at()))
    assert (header.ledger, header.version, header.slot, header.draw) == (LEDGER, 0, 0, 0)
    assert (header.task, header.invited, header.max_staleness) == ("task", 0.5, 4)
    assert header.payload == one.current.payload


def test_versions_are_kept_for_as_long_as_the_settings_say() -> None:
    made = progression(keep_versions=3)
    made.announce(at())
    oldest = [
        [e.oldest for e in make(made, version) if isinstance(e, Clean)] for version in (1, 2, 3, 4)
    ]
    assert oldest == [[-1], [0], [1], [2]]


def test_a_version_stays_while_an_update_that_waits_is_based_on_it() -> None:
    made = progression(keep_versions=3)
    made.announce(at())
    for version in range(1, 6):
        make(made, version)
    made.accept(accepted("waiting", 0, 1), at())
    assert Clean(1) in made.combined(Combined(a_version(9), ()), True, at())


def test_slots_take_turns() -> None:
    made = progression(transfer={"slots": 3})
    made.announce(at())
    slots = [headers(make(made, version))[0].slot for version in (1, 2, 3, 4)]
    assert slots == [1, 2, 0, 1]


def test_the_trigger_orders_a_version_of_the_oldest_updates_with_their_weights() -> None:
    made = progression()
    made.announce(at())
    make(made, 1)
    for update in (accepted("a", 0, 0), accepted("a", 1, 1), accepted("b", 0, 1)):
        made.accept(update, at())
    (combine,) = made.go_on(TEN.keys(), True, at())
    assert isinstance(combine, Combine)
    assert combine.base_version == 1
    assert [(c.id.device, c.id.sequence, c.staleness) for c in combine.contributions] == [
        ("a", 0, 1),
        ("b", 0, 0),
    ]


def test_one_version_is_made_at_a_time() -> None:
    made = progression({"trigger": "immediate"})
    made.announce(at())
    made.accept(accepted("a"), at())
    made.accept(accepted("b"), at())
    (combine,) = made.go_on(TEN.keys(), True, at())
    assert made.next_base == 1, "what comes now has missed the version that is being made"
    assert made.go_on(TEN.keys(), True, at(1)) == []
    assert made.due_s == inf
    made.combined(Combined(a_version(1), combine.contributions), True, at(2))
    assert kinds(made.go_on(TEN.keys(), True, at(2))) == ["Combine"]


def test_what_a_version_was_made_of_leaves_the_buffer_and_the_rest_stays() -> None:
    made = progression()
    made.announce(at())
    for update in (accepted("a", 0), accepted("a", 1), accepted("b", 0)):
        made.accept(update, at())
    (combine,) = made.go_on(TEN.keys(), True, at())
    made.combined(Combined(a_version(1), combine.contributions), True, at())
    assert made.buffer == [accepted("a", 1)]


def test_a_new_version_is_told_reported_and_announced() -> None:
    made = progression()
    made.announce(at())
    effects = make(made, 1)
    facts = {
        "version": 1,
        "updates": 2,
        "devices": ["device-0", "device-1"],
        "staleness": [0, 0],
        "clipped": 0,
        "left_out": 0,
    }
    assert Report("version", facts) in effects
    assert [e.text for e in effects if isinstance(e, Log)] == ["version made", "version published"]
    assert headers(effects)[0].version == 1


def test_without_a_link_a_version_is_made_and_not_announced() -> None:
    made = progression()
    made.announce(at())
    assert headers(make(made, 1, linked=False)) == []
    assert made.current.version == 1


def test_an_overdue_buffer_is_combined_as_it_is() -> None:
    made = progression()
    made.announce(at(0))
    assert made.due_s == inf, "an empty buffer has no deadline"
    made.accept(accepted("a"), at(10))
    assert made.due_s == 40
    assert made.go_on(TEN.keys(), True, at(39)) == []
    assert kinds(made.go_on(TEN.keys(), True, at(40))) == ["Combine"]


def test_updates_that_wait_since_before_a_restart_have_their_deadline_too() -> None:
    made = progression(buffer=(accepted("a"),))
    made.announce(at(100))
    assert made.due_s == 130


def test_a_round_without_updates_invites_anew_at_its_deadline() -> None:
    made = progression({"trigger": "rounds", "fraction": 0.3})
    first = headers(made.announce(at(0)))[0]
    effects = made.go_on(TEN.keys(), True, at(30))
    assert next(e.text for e in effects if isinstance(e, Log)) == "too few updates in time"
    (again,) = headers(effects)
    assert (again.version, first.draw, again.draw) == (0, 0, 1)
    assert made.due_s == 60

    def invited(header: Header) -> set[str]:
        return {d for d in TEN if is_invited(d, header.version, header.draw, header.invited)}

    assert invited(first) != invited(again)


def test_a_round_without_a_link_waits_once_more_and_invites_nobody() -> None:
    made = progression({"trigger": "rounds"})
    made.announce(at(0))
    assert kinds(made.go_on(TEN.keys(), False, at(30))) == ["Log"]
    assert made.header().draw == 0
    assert made.due_s == 60


def test_a_new_version_begins_with_the_first_draw() -> None:
    made = progression({"trigger": "rounds"})
    made.announce(at(0))
    made.go_on(TEN.keys(), True, at(30))
    made.accept(accepted("device-0"), at(31))
    (combine,) = made.go_on({"device-0"}, True, at(31))
    made.combined(Combined(a_version(1), combine.contributions), True, at(32))
    assert made.header().draw == 0


def test_a_round_ends_when_all_invited_devices_that_are_there_have_delivered() -> None:
    made = progression({"trigger": "rounds"})
    made.announce(at())
    made.accept(accepted("a"), at())
    assert made.go_on({"a", "b"}, True, at()) == []
    made.accept(accepted("b"), at())
    assert kinds(made.go_on({"b"}, True, at())) == ["Combine"], "a went after it delivered"


def test_devices_that_are_not_invited_are_not_waited_for() -> None:
    made = progression({"trigger": "rounds", "fraction": 0.3})
    made.announce(at())
    invited = [d for d in TEN if is_invited(d, 0, 0, 0.3)]
    assert 0 < len(invited) < 10
    for device in invited:
        assert made.go_on(TEN.keys(), True, at()) == []
        made.accept(accepted(device), at())
    assert kinds(made.go_on(TEN.keys(), True, at())) == ["Combine"]


def test_versions_are_tested_as_often_as_the_settings_say_and_the_last_one_always() -> None:
    made = progression(test_set="test.npz", evaluate_every=2, versions=5)
    made.announce(at())
    tested = [
        effect.version
        for version in (1, 2, 3, 4, 5)
        for effect in make(made, version)
        if isinstance(effect, Evaluate)
    ]
    assert tested == [2, 4, 5]


def test_the_end_comes_when_the_last_version_is_tested() -> None:
    made = progression(test_set="test.npz", versions=1)
    made.announce(at())
    assert "Stop" not in kinds(make(made, 1))
    assert made.finished
    effects = made.evaluated(Evaluated(1, {"accuracy": 0.5}))
    assert effects[-1] == Stop(0, "version 1 is the last one")
    assert Report("evaluation", {"version": 1, "accuracy": 0.5}) in effects


def test_without_a_test_set_the_end_comes_with_the_last_version() -> None:
    made = progression(versions=2)
    made.announce(at())
    assert "Stop" not in kinds(make(made, 1))
    assert kinds(make(made, 2))[-1] == "Stop"


def test_tests_that_were_skipped_do_not_block_the_end() -> None:
    made = progression(test_set="test.npz", versions=3)
    made.announce(at())
    for version in (1, 2, 3):
        make(made, version)
    assert "Stop" not in kinds(made.evaluated(Evaluated(1, {})))
    # The evaluator skipped version 2, as 3 was there when it had time again.
    assert kinds(made.evaluated(Evaluated(3, {})))[-1] == "Stop"


def test_a_last_version_that_could_not_be_tested_is_the_end_too() -> None:
    made = progression(test_set="test.npz", versions=1)
    made.announce(at())
    make(made, 1)
    effects = made.evaluated(Evaluated(1, {}, "worker ended with code 1"))
    assert kinds(effects) == ["Log", "Stop"], "there is nothing to report"


def test_after_the_last_version_no_other_is_made() -> None:
    made = progression(test_set="test.npz", versions=1)
    made.announce(at())
    make(made, 1)
    for device in ("a", "b", "c"):
        made.accept(accepted(device, 9, 1), at())
    assert made.go_on(TEN.keys(), True, at(1000)) == []
    assert made.due_s == inf


# Device-held memory


def remembering(holders: frozenset[tuple[str, bytes]] = frozenset()) -> Progression:
    settings = CoordinatorSettings(
        task="task",
        aggregation={"buffer_size": 2, "cooldown": 0, "combine": "mean"},
        training={"memory": True},
    )
    memory = Recollection(LEDGER, a_version(0), {}, (), holders=holders)
    return Progression(settings, memory, boot=2)


def known(made: Progression) -> list[bool | None]:
    (combine,) = made.go_on(TEN.keys(), True, at())
    assert isinstance(combine, Combine)
    version = combine.base_version + 1
    made.combined(Combined(a_version(version), combine.contributions), True, at())
    return [part.known for part in combine.contributions]


def test_without_a_memory_nobody_asks_who_is_known() -> None:
    made = progression()
    made.announce(at())
    for name in ("a", "b"):
        made.accept(accepted(name), at())
    assert known(made) == [None, None]


def test_an_outbox_is_known_once_a_version_has_an_update_of_it() -> None:
    made = remembering(frozenset({("a", OUTBOX)}))
    made.announce(at())
    for sequence in range(2):
        for name in ("a", "b"):
            made.accept(accepted(name, sequence), at())
    assert known(made) == [True, False]
    assert known(made) == [True, True]


def test_a_device_that_was_wiped_is_not_known() -> None:
    made = remembering(frozenset({("a", b"outbox-0"), ("b", OUTBOX)}))
    made.announce(at())
    for name in ("a", "b"):
        made.accept(accepted(name), at())
    assert known(made) == [False, True]
