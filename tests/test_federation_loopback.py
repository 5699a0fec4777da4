"""The loopback broker: it breaks what it is told to break, by its seed, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from federation.loopback import Faults, LoopbackBroker, LoopbackSession
from federation.machine import Linked, Publish, Received, Unlinked
from federation.session import Identity
from federation.virtual_time import VirtualTime

N = 1000
NO_FAULTS = Faults()


class World:
    """A broker, and clients that write down what they were told and when."""

    def __init__(self, faults: Faults = NO_FAULTS, seed: int = 0) -> None:
        self.time = VirtualTime()
        self.broker = LoopbackBroker(self.time, seed=seed)
        self.later = faults
        self.told: dict[str, list[tuple[float, Any]]] = {}

    def client(self, name: str, *filters: str, client_id: str = "") -> LoopbackSession:
        told = self.told[name] = []
        identity = Identity(
            client_id or name, filters, lambda n: Publish(f"will/{name}", b"%d" % n, 1, True), 0
        )
        session = LoopbackSession(
            self.broker, identity, lambda event: told.append((self.time.now_s, event))
        )
        session.start()
        self.run(0.01)
        return session

    def begin_faults(self) -> None:
        self.broker.faults = self.later

    def run(self, seconds: float = 100.0) -> None:
        end_s = self.time.now_s + seconds
        self.time.call_at(end_s, lambda: None)
        self.time.run_until(lambda: False, end_s)

    def heard(self, name: str) -> list[Received]:
        return [event for _, event in self.told[name] if isinstance(event, Received)]

    def payloads(self, name: str) -> list[bytes]:
        return [received.payload for received in self.heard(name)]

    def kinds(self, name: str) -> list[type]:
        return [type(event) for _, event in self.told[name]]


def publish_many(session: LoopbackSession, topic: str = "news") -> list[bytes]:
    payloads = [b"%d" % n for n in range(N)]
    for payload in payloads:
        session.publish(Publish(topic, payload))
    return payloads


def pair(faults: Faults = NO_FAULTS, seed: int = 0) -> tuple[World, LoopbackSession]:
    """A speaker, and a listener that hears `news`."""
    world = World(faults, seed)
    world.client("listener", "news")
    speaker = world.client("speaker")
    world.begin_faults()
    return world, speaker


def test_without_faults_everything_arrives_once_and_in_order() -> None:
    world, speaker = pair()
    sent = publish_many(speaker)
    world.run()
    assert world.payloads("listener") == sent


def test_losses_happen_on_both_ways() -> None:
    world, speaker = pair(Faults(loss=0.5))
    sent = publish_many(speaker)
    world.run()
    heard = world.payloads("listener")
    assert set(heard) < set(sent)
    # Half is lost on the way to the broker, half of the rest on the way from it.
    assert 200 < len(heard) < 300


def test_a_loss_of_one_lets_nothing_through() -> None:
    world, speaker = pair(Faults(loss=1.0))
    publish_many(speaker)
    world.run()
    assert world.payloads("listener") == []


def test_doubles_happen_on_both_ways() -> None:
    world, speaker = pair(Faults(duplication=1.0))
    speaker.publish(Publish("news", b"once"))
    world.run()
    assert world.payloads("listener") == [b"once"] * 4


def test_a_delay_is_drawn_for_each_message_so_their_order_is_lost() -> None:
    world, speaker = pair(Faults(delay_s=(1.0, 2.0)))
    start_s = world.time.now_s
    sent = publish_many(speaker)
    world.run()
    heard = world.payloads("listener")
    assert heard != sent
    assert sorted(heard) == sorted(sent)
    under_way = [at - start_s for at, e in world.told["listener"] if isinstance(e, Received)]
    assert 2.0 <= min(under_way) <= max(under_way) <= 4.0


def test_a_cut_breaks_the_link_of_the_sender_before_the_message() -> None:
    world, speaker = pair(Faults(cut=1.0))
    assert not speaker.publish(Publish("news", b"lost"))
    world.run()
    assert world.payloads("listener") == []
    assert world.kinds("speaker") == [Linked, Unlinked, Linked]
    assert world.kinds("listener") == [Linked]


def outcome(seed: int) -> Sequence[bytes]:
    world, speaker = pair(Faults(0.3, 0.3, 0.01, (0.0, 1.0)), seed)
    publish_many(speaker)
    world.run()
    return world.payloads("listener")


def test_the_same_seed_brings_the_same_faults_and_another_seed_others() -> None:
    assert outcome(1) == outcome(1)
    assert outcome(1) != outcome(2)


def test_what_is_retained_is_handed_to_who_subscribes_later() -> None:
    world = World()
    speaker = world.client("speaker")
    speaker.publish(Publish("a/1", b"old", retain=True))
    speaker.publish(Publish("a/1", b"new", retain=True))
    speaker.publish(Publish("a/2", b"gone", retain=True))
    speaker.publish(Publish("a/2", b"", retain=True))
    speaker.publish(Publish("a/3", b"live"))
    world.run()
    world.client("late", "a/+")
    world.run()
    assert world.heard("late") == [Received("a/1", b"new", retained=True)]


def test_a_plus_stands_for_one_level() -> None:
    world = World()
    world.client("listener", "a/+/c")
    speaker = world.client("speaker")
    for topic in ("a/b/c", "a/x/c", "a/c", "a/b/c/d", "b/b/c", "a//c"):
        speaker.publish(Publish(topic, topic.encode()))
    world.run()
    assert world.payloads("listener") == [b"a/b/c", b"a/x/c", b"a//c"]


def test_who_vanishes_is_heard_of_by_the_will_and_tells_nothing_any_more() -> None:
    world = World()
    world.client("listener", "will/victim")
    victim = world.client("victim", "news")
    victim.vanish()
    world.run()
    assert world.payloads("listener") == [b"1"]
    assert world.broker.retained == {"will/victim": b"1"}
    assert world.kinds("victim") == [Linked]
    assert not victim.publish(Publish("news", b"from beyond"))


def test_a_client_that_was_cut_comes_back_and_is_told_both() -> None:
    world = World()
    world.client("listener", "will/victim")
    victim = world.client("victim")
    victim.cut("a cable")
    victim.cut("twice does nothing")
    world.run()
    assert [event for _, event in world.told["victim"]] == [
        Linked(1),
        Unlinked("a cable"),
        Linked(2),
    ]
    assert world.payloads("listener") == [b"1"]


def test_a_message_under_way_to_a_connection_does_not_reach_the_next_one() -> None:
    world = World(Faults(delay_s=(3.0, 3.0)))
    listener = world.client("listener", "news")
    speaker = world.client("speaker")
    world.begin_faults()
    speaker.publish(Publish("news", b"late"))
    world.run(4.0)
    listener.cut("a cable")
    world.run()
    assert world.kinds("listener") == [Linked, Unlinked, Linked]


def test_the_newer_of_two_with_one_id_takes_the_older_ones_place() -> None:
    world = World()
    world.client("listener", "will/older", "will/newer")
    older = world.client("older", "news", client_id="same")
    world.client("newer", "news", client_id="same")
    older.stop()  # it would take the place back
    speaker = world.client("speaker")
    speaker.publish(Publish("news", b"x"))
    world.run()
    assert [event for _, event in world.told["older"]] == [
        Linked(1),
        Unlinked("another client took the id over"),
    ]
    assert world.payloads("newer") == [b"x"]
    assert [received.topic for received in world.heard("listener")] == ["will/older"]


def test_a_broker_that_was_killed_has_forgotten_everything_and_publishes_no_wills() -> None:
    world = World()
    speaker = world.client("speaker", "will/+")
    speaker.publish(Publish("a", b"kept", retain=True))
    world.client("other")
    world.run(1.0)
    world.broker.forget_everything()
    world.run()
    assert world.broker.retained == {}
    assert world.kinds("speaker") == [Linked, Unlinked, Linked]
    assert world.kinds("other") == [Linked, Unlinked, Linked]


def test_who_was_stopped_does_not_come_back() -> None:
    world = World()
    session = world.client("speaker")
    session.stop()
    session.cut("nothing is there to cut")
    world.run()
    assert world.kinds("speaker") == [Linked]


def test_who_is_stopped_before_the_link_came_up_never_links() -> None:
    world = World()
    told: list[object] = []
    identity = Identity("early", (), lambda n: Publish("will", b""), 0)
    session = LoopbackSession(world.broker, identity, told.append)
    session.start()
    session.stop(Publish("news", b"farewell", retain=True))
    world.run()
    assert told == []
    assert world.broker.retained == {}


@pytest.mark.parametrize("boot", [0, 3])
def test_the_will_bears_the_number_of_its_connection(boot: int) -> None:
    world = World()
    told: list[object] = []
    identity = Identity("x", (), lambda n: Publish("w", b"%d" % n, retain=True), boot)
    session = LoopbackSession(world.broker, identity, told.append)
    session.start()
    for connection in (1, 2, 3):
        world.run(5.0)
        session.cut("again")
        world.run(0.06)
        assert world.broker.retained == {"w": b"%d" % ((boot << 24) + connection)}


def test_a_narrow_link_carries_one_message_after_another() -> None:
    world = World()
    world.client("listener", "news")
    world.broker.faults = Faults(bandwidth=1000.0, delay_s=(0.0, 0.0))
    speaker = world.client("speaker")
    began_s = world.time.now_s
    for name in (b"a", b"b", b"c"):
        speaker.publish(Publish("news", name * 2000))
    assert speaker.backlog_bytes == 6000
    world.run(3.0)
    assert speaker.backlog_bytes == pytest.approx(3000, abs=1)
    world.run(10.0)
    told = [when_s - began_s for when_s, event in world.told["listener"] if type(event) is Received]
    assert told == pytest.approx([2.0, 4.0, 6.0])


def test_what_has_not_left_a_narrow_link_is_lost_with_it() -> None:
    world = World()
    world.client("listener", "news")
    world.broker.faults = Faults(bandwidth=1000.0)
    speaker = world.client("speaker")
    for name in (b"a", b"b", b"c"):
        speaker.publish(Publish("news", name * 2000))
    world.run(3.0)
    speaker.cut("in the middle")
    assert world.payloads("listener") == [b"a" * 2000]
    world.run(20.0)
    assert world.payloads("listener") == [b"a" * 2000]
    assert speaker.backlog_bytes == 0
