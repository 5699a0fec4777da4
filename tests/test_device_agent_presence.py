"""Born on every link, and alone under its id."""

from __future__ import annotations

from math import inf
from typing import Any

import pytest

from config.failures import ExitCode
from device_agent.presence import GRACE_S, Presence, Self
from federation.machine import Publish, Stop
from federation.messages import DevicePresence, State, decode, encode
from tests.specimens import OUTBOX, PROCESS, TOPICS, a_birth, at

BOOT = 2
MINE = BOOT << 24
ME = Self("one", OUTBOX, PROCESS, BOOT, "task", "1.0")


def presence() -> Presence:
    return Presence(ME, TOPICS.device("one"))


def born() -> Presence:
    """A presence whose birth on the first link was told and heard."""
    one = presence()
    one.link_up(MINE + 1, at(0))
    one.advance(at(0))
    one.heard(ME.presence(State.ONLINE, MINE + 1), False, at(0))
    return one


def another(state: State = State.ONLINE, **fields: Any) -> DevicePresence:
    known = {"outbox": b"outbox-2", "process": b"process2", "state": state}
    return a_birth(7, **{**known, **fields})


def test_the_first_birth_is_told_at_once_and_once() -> None:
    one = presence()
    assert one.advance(at(0)) == []
    one.link_up(MINE + 1, at(0))
    birth = encode(ME.presence(State.ONLINE, MINE + 1))
    assert one.advance(at(0)) == [Publish(TOPICS.device("one"), birth, retain=True)]
    assert one.advance(at(9)) == []
    assert one.due_s == inf


def test_on_a_later_link_it_hears_first_whether_another_has_come() -> None:
    one = born()
    one.link_up(MINE + 2, at(10))
    assert one.due_s == 10 + GRACE_S
    assert one.advance(at(10)) == []
    (birth,) = one.advance(at(10 + GRACE_S))
    assert isinstance(birth, Publish)
    assert birth.payload == encode(ME.presence(State.ONLINE, MINE + 2))


def test_its_own_last_word_on_the_topic_ends_the_listening() -> None:
    one = born()
    one.link_up(MINE + 2, at(10))
    assert one.heard(ME.presence(State.OFFLINE, MINE + 1), True, at(10.1)) == []
    assert len(one.advance(at(10.1))) == 1


@pytest.mark.parametrize("retained", [False, True])
def test_it_yields_to_a_birth_after_its_own(retained: bool) -> None:
    (stop,) = born().heard(another(), retained, at(1))
    assert isinstance(stop, Stop)
    assert stop.exit_code == ExitCode.DUPLICATE
    assert "'one'" in stop.text


def test_back_on_the_link_it_yields_to_the_will_of_whoever_took_it_down() -> None:
    assert len(born().heard(another(State.OFFLINE), True, at(1))) == 1


def test_the_late_will_of_a_predecessor_is_not_yielded_to() -> None:
    assert born().heard(another(State.OFFLINE), False, at(1)) == []


@pytest.mark.parametrize("state", State)
def test_who_was_there_before_its_own_birth_was_heard_is_not_yielded_to(state: State) -> None:
    one = presence()
    one.link_up(MINE + 1, at(0))
    assert one.heard(another(state), True, at(0)) == []


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("retained", [False, True])
def test_its_own_past_is_not_yielded_to(state: State, retained: bool) -> None:
    past = a_birth(MINE - 1, process=b"process0", state=state)
    assert born().heard(past, retained, at(1)) == []


def test_of_two_agents_on_copies_of_one_disk_the_one_started_more_often_stays() -> None:
    (stop,) = born().heard(a_birth(((BOOT + 1) << 24) + 1, process=b"process2"), False, at(1))
    assert isinstance(stop, Stop)
    assert born().heard(a_birth(((BOOT - 1) << 24) + 1, process=b"process2"), False, at(1)) == []


def told(effects: Any) -> list[DevicePresence]:
    messages = [decode(effect.payload) for effect in effects if isinstance(effect, Publish)]
    return [message for message in messages if isinstance(message, DevicePresence)]


def test_why_the_device_does_not_work_is_told_once_when_it_begins_and_when_it_ends() -> None:
    one = born()
    for why in ("storage full", ""):
        for _ in range(2):
            one.pause(why, at(5))
        (again,) = told(one.advance(at(5)))
        assert again == ME.presence(State.ONLINE, MINE + 1, why)
        assert one.advance(at(9)) == []


def test_a_pause_does_not_shorten_the_listening_on_a_new_link() -> None:
    one = born()
    one.link_up(MINE + 2, at(10))
    one.pause("storage full", at(10))
    assert one.advance(at(10)) == []
    (birth,) = told(one.advance(at(10 + GRACE_S)))
    assert birth.paused == "storage full"
