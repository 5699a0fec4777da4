"""The vocabulary of the cores: plain values, and levels that the standard library knows."""

from __future__ import annotations

import logging
from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from federation import machine
from federation.machine import Level, Linked, Log, Publish, Received, Stop, Subscribe, Tick


def test_levels_have_the_values_of_the_standard_library() -> None:
    assert {level.name: level.value for level in Level} == {
        name: getattr(logging, name) for name in ("DEBUG", "INFO", "WARNING", "ERROR")
    }


@pytest.mark.parametrize(
    "value",
    [Linked(1), Received("t", b""), Tick(), Publish("t", b""), Subscribe(("t",)), Stop(0, "")],
)
def test_events_and_effects_do_not_change_once_made(value: object) -> None:
    with pytest.raises((FrozenInstanceError, TypeError)):
        setattr(value, "surprise", 1)  # noqa: B010
    assert not hasattr(value, "__dict__")


def test_every_event_and_effect_holds_plain_data_only() -> None:
    kinds = [kind for kind in vars(machine).values() if isinstance(kind, type)]
    told = [k for k in kinds if is_dataclass(k) and k.__module__ == machine.__name__]
    assert len(told) == 11
    assert not [f.name for kind in told for f in fields(kind) if "Callable" in str(f.type)]


def test_a_small_message_is_published_with_an_answer_and_not_kept() -> None:
    small = Publish("t", b"")
    assert (small.qos, small.retain) == (1, False)


def test_two_lines_do_not_share_their_facts() -> None:
    assert Log(Level.INFO, "one").facts is not Log(Level.INFO, "two").facts
