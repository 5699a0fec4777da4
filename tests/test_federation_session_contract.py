"""What a core may expect of its session, held against the loopback twin and real brokers."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from typing import Any

import pytest

from broker.start import RunningBroker, choose, start
from config.failures import Failure
from config.settings import BrokerSettings, Link
from federation.loopback import LoopbackBroker, LoopbackSession
from federation.machine import Linked, Publish, Received, Unlinked
from federation.paho_session import PahoSession
from federation.session import HIGH_WATER_BYTES, Drained, Identity, Session, SessionEvent
from federation.virtual_time import VirtualTime

LONG_S = 30.0
BOOT = 3
_roots = count()


class Party:
    """A session and all that it told, in order."""

    def __init__(self, net: Net, name: str, filters: tuple[str, ...], client_id: str) -> None:
        self.events: list[SessionEvent] = []
        self.when_told: Callable[[SessionEvent], object] = lambda _: None
        self._net = net
        identity = Identity(client_id, filters, lambda n: will(net.root, name, n), BOOT)
        self.session = net.session(identity, self._inbox)

    def _inbox(self, event: SessionEvent) -> None:
        self.events.append(event)
        self.when_told(event)

    def told(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]

    @property
    def payloads(self) -> list[bytes]:
        return [received.payload for received in self.told(Received)]

    def hear(self, payload: bytes) -> Received:
        """Wait until this was received."""
        self._net.until(lambda: payload in self.payloads)
        return next(one for one in self.told(Received) if one.payload == payload)

    def link(self, times: int = 1) -> Linked:
        """Wait for the n-th link."""
        self._net.until(lambda: len(self.told(Linked)) >= times)
        linked: Linked = self.told(Linked)[times - 1]
        return linked

    def publish(self, below: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        assert self.session.publish(Publish(self._net.root + below, payload, qos, retain))


class Net(ABC):
    """Where sessions meet; every test has topics of its own in it."""

    def __init__(self) -> None:
        self.root = f"contract/{next(_roots)}/"
        self.parties: list[Party] = []

    def join(self, name: str, *below: str, client_id: str = "", linked: bool = True) -> Party:
        """A new party with these standing subscriptions, and `all` of its own."""
        filters = tuple(self.root + one for one in below) or (f"{self.root}nothing/{name}",)
        unique = self.root.replace("/", "-") + (client_id or name)
        party = Party(self, name, filters, unique)
        self.parties.append(party)
        if linked:
            party.session.start()
            party.link()
        return party

    @abstractmethod
    def session(self, identity: Identity, inbox: Callable[[SessionEvent], None]) -> Session: ...

    @abstractmethod
    def until(self, done: Callable[[], bool]) -> None: ...

    @abstractmethod
    def cut(self, party: Party) -> None:
        """Break the connection of a party, which comes back by itself."""

    def close(self) -> None:
        for party in self.parties:
            party.session.stop()


class InMemory(Net):
    def __init__(self) -> None:
        super().__init__()
        self.time = VirtualTime()
        self.broker = LoopbackBroker(self.time)

    def session(self, identity: Identity, inbox: Callable[[SessionEvent], None]) -> Session:
        return LoopbackSession(self.broker, identity, inbox)

    def until(self, done: Callable[[], bool]) -> None:
        assert self.time.run_until(done, self.time.now_s + 100)

    def cut(self, party: Party) -> None:
        assert isinstance(party.session, LoopbackSession)
        party.session.cut("the line was cut")


class OverTcp(Net):
    def __init__(self, broker: RunningBroker) -> None:
        super().__init__()
        self._broker = broker
        self.lines: dict[Session, Line] = {}

    def session(self, identity: Identity, inbox: Callable[[SessionEvent], None]) -> Session:
        line = Line(self._broker.host, self._broker.port)
        link = Link(port=line.port, backoff_base_s=0.05, backoff_cap_s=0.05)
        session = PahoSession(link, identity, inbox)
        self.lines[session] = line
        return session

    def until(self, done: Callable[[], bool]) -> None:
        give_up_s = time.monotonic() + LONG_S
        while not done():
            assert time.monotonic() < give_up_s, "it never happened"
            time.sleep(0.005)

    def cut(self, party: Party) -> None:
        self.lines[party.session].cut()

    def close(self) -> None:
        super().close()
        for line in self.lines.values():
            line.close()


class Line:
    """A TCP line to the broker that can be cut, and be held so that nothing passes upwards."""

    def __init__(self, host: str, port: int) -> None:
        self._far = (host, port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        # What waits in the kernel on the way to the broker is little.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        self.flows = threading.Event()
        self.flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        ends, self._open = self._open, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.flows.set()
        self.cut()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._far)
                self._open += [near, far]
                for pump in (self._up, self._down):
                    threading.Thread(target=pump, args=(near, far), daemon=True).start()

    def _up(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while self.flows.wait() and (data := near.recv(65536)):
                far.sendall(data)
        self._end(far)

    def _down(self, near: socket.socket, far: socket.socket) -> None:
        with suppress(OSError):
            while data := far.recv(65536):
                near.sendall(data)
        self._end(near)

    @staticmethod
    def _end(line: socket.socket) -> None:
        with suppress(OSError):
            line.shutdown(socket.SHUT_RDWR)
        line.close()


def will(root: str, name: str, incarnation: int) -> Publish:
    return Publish(f"{root}will/{name}", b"%s died as %d" % (name.encode(), incarnation), 1, True)


@pytest.fixture(scope="module", params=["loopback", "mosquitto", "embedded"])
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker | None]:
    if request.param == "loopback":
        yield None
        return
    try:
        choose(request.param)
    except Failure as failure:
        pytest.skip(str(failure))
    settings = BrokerSettings(kind=request.param, port=0, insecure=True)
    with start(settings, tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture
def net(broker: RunningBroker | None) -> Iterator[Net]:
    one = InMemory() if broker is None else OverTcp(broker)
    yield one
    one.close()


@pytest.fixture
def tcp(net: Net) -> OverTcp:
    if not isinstance(net, OverTcp):
        pytest.skip("a session in memory holds nothing back")
    return net


# Linked


def test_who_is_told_linked_can_be_reached(net: Net) -> None:
    speaker = net.join("speaker")
    listener = net.join("listener", "news", "alerts", linked=False)

    def greet(event: SessionEvent) -> None:
        if isinstance(event, Linked):
            speaker.publish("news", b"welcome")
            speaker.publish("alerts", b"careful")

    listener.when_told = greet
    listener.session.start()
    listener.hear(b"welcome")
    listener.hear(b"careful")


def test_linked_is_told_once_with_the_incarnation_of_the_first_connection(net: Net) -> None:
    party = net.join("party", "news")
    party.publish("news", b"mark")
    party.hear(b"mark")
    assert party.told(Linked) == [Linked((BOOT << 24) + 1)]
    assert party.told(Unlinked) == []


def test_what_was_retained_comes_with_a_standing_subscription(net: Net) -> None:
    speaker = net.join("speaker", "state")
    speaker.publish("state", b"on", retain=True)
    speaker.hear(b"on")
    late = net.join("late", "state")
    assert late.hear(b"on") == Received(net.root + "state", b"on", retained=True)


def test_a_filter_with_a_plus_hears_every_device(net: Net) -> None:
    party = net.join("party", "device/+/up")
    for device in ("a", "b"):
        party.publish(f"device/{device}", b"not this")
        party.publish(f"device/{device}/up", device.encode())
    party.hear(b"b")
    assert party.payloads == [b"a", b"b"]


# Publish and receive


@pytest.mark.parametrize("qos", [0, 1])
def test_what_one_publishes_the_other_receives(net: Net, qos: int) -> None:
    listener, speaker = net.join("listener", "news"), net.join("speaker")
    speaker.publish("news", b"\x00any bytes\xff", qos)
    heard = listener.hear(b"\x00any bytes\xff")
    assert heard == Received(net.root + "news", b"\x00any bytes\xff", retained=False)


@pytest.mark.parametrize("qos", [0, 1])
def test_what_one_publishes_arrives_once_and_in_order(net: Net, qos: int) -> None:
    listener, speaker = net.join("listener", "news"), net.join("speaker")
    sent = [b"%d" % n for n in range(50)]
    for payload in sent:
        speaker.publish("news", payload, qos)
    listener.hear(sent[-1])
    assert listener.payloads == sent


def test_the_largest_chunk_passes(net: Net) -> None:
    listener, speaker = net.join("listener", "news"), net.join("speaker")
    chunk = bytes(range(256)) * 4096 + b"14 bytes more."
    speaker.publish("news", chunk, 0)
    listener.hear(chunk)


def test_who_is_there_already_hears_a_retained_message_as_a_live_one(net: Net) -> None:
    listener, speaker = net.join("listener", "state"), net.join("speaker")
    speaker.publish("state", b"on", retain=True)
    assert not listener.hear(b"on").retained


def test_nobody_hears_what_is_on_other_topics(net: Net) -> None:
    listener, speaker = net.join("listener", "news"), net.join("speaker")
    for below in ("new", "news/more", "newss", "News", "x/news"):
        speaker.publish(below, b"not for you")
    speaker.publish("news", b"mark")
    listener.hear(b"mark")
    assert listener.payloads == [b"mark"]


def test_traffic_counts_payloads_both_ways(net: Net) -> None:
    party = net.join("party", "news")
    assert party.session.traffic == (0, 0)
    party.publish("news", b"12345")
    party.publish("elsewhere", b"123", 0)
    party.hear(b"12345")
    assert party.session.traffic == (8, 5)


# Dynamic subscriptions


def test_a_dynamic_subscription_brings_what_is_retained(net: Net) -> None:
    speaker, party = net.join("speaker", "chunk/+"), net.join("party")
    speaker.publish("chunk/0", b"the chunk", 0, retain=True)
    speaker.publish("chunk/1", b"the next", 0, retain=True)
    speaker.hear(b"the next")
    party.session.subscribe([net.root + "chunk/0", net.root + "chunk/1"])
    assert party.hear(b"the chunk") == Received(net.root + "chunk/0", b"the chunk", retained=True)
    assert party.hear(b"the next").retained


def test_a_dynamic_subscription_brings_what_comes_later(net: Net) -> None:
    party = net.join("party")
    party.session.subscribe([net.root + "chunk/0"])
    party.publish("chunk/0", b"live", 0)
    assert not party.hear(b"live").retained


def test_a_topic_that_was_given_back_is_heard_no_more(net: Net) -> None:
    party = net.join("party", "news")
    party.session.subscribe([net.root + "a", net.root + "b"])
    party.publish("a", b"1")
    party.hear(b"1")
    party.session.unsubscribe([net.root + "a"])
    party.publish("a", b"2")
    party.publish("b", b"3")
    party.publish("news", b"mark")
    party.hear(b"mark")
    assert party.payloads == [b"1", b"3", b"mark"]


def test_a_topic_that_was_given_back_can_be_had_again(net: Net) -> None:
    speaker, party = net.join("speaker", "chunk"), net.join("party")
    speaker.publish("chunk", b"kept", retain=True)
    speaker.hear(b"kept")
    topic = net.root + "chunk"
    party.session.subscribe([topic])
    net.until(lambda: party.payloads == [b"kept"])
    party.session.unsubscribe([topic])
    party.session.subscribe([topic])
    net.until(lambda: party.payloads == [b"kept"] * 2)


def test_no_dynamic_subscription_survives_a_new_connection(net: Net) -> None:
    speaker, party = net.join("speaker"), net.join("party", "news")
    party.session.subscribe([net.root + "chunk"])
    party.publish("chunk", b"before")
    party.hear(b"before")
    net.cut(party)
    party.link(times=2)
    speaker.publish("chunk", b"after")
    speaker.publish("news", b"mark")
    party.hear(b"mark")
    assert party.payloads == [b"before", b"mark"]


# Without a link


def test_what_is_published_before_the_link_is_dropped_for_good(net: Net) -> None:
    listener = net.join("listener", "news")
    early = net.join("early", linked=False)
    for qos in (0, 1):
        assert not early.session.publish(Publish(net.root + "news", b"too early", qos))
    early.session.start()
    early.link()
    early.publish("news", b"mark")
    listener.hear(b"mark")
    assert listener.payloads == [b"mark"]
    assert early.session.traffic == (4, 0)


def test_what_is_published_while_the_link_is_down_is_dropped_for_good(net: Net) -> None:
    listener, speaker = net.join("listener", "news"), net.join("speaker")
    results: list[bool] = []

    def speak(event: SessionEvent) -> None:
        if isinstance(event, Unlinked):
            for qos in (0, 1):
                results.append(speaker.session.publish(Publish(net.root + "news", b"lost", qos)))

    speaker.when_told = speak
    net.cut(speaker)
    speaker.link(times=2)
    speaker.publish("news", b"mark")
    listener.hear(b"mark")
    assert results
    assert not any(results)
    assert listener.payloads == [b"mark"]


def test_subscribing_without_a_link_does_nothing(net: Net) -> None:
    party = net.join("party", "news", linked=False)
    party.session.subscribe([net.root + "chunk"])
    party.session.unsubscribe([net.root + "news"])
    party.session.start()
    party.link()
    party.publish("chunk", b"not heard")
    party.publish("news", b"mark")
    party.hear(b"mark")
    assert party.payloads == [b"mark"]


# A broken link


def test_a_broken_link_is_told_and_mends_itself(net: Net) -> None:
    speaker, party = net.join("speaker"), net.join("party", "news")
    net.cut(party)
    party.link(times=2)
    kinds = [type(event) for event in party.events]
    assert (kinds[0], kinds[-1]) == (Linked, Linked)
    assert set(kinds[1:-1]) == {Unlinked}
    assert all(one.reason for one in party.told(Unlinked))
    speaker.publish("news", b"back again")
    party.hear(b"back again")


def test_a_new_connection_has_a_greater_incarnation(net: Net) -> None:
    party = net.join("party")
    net.cut(party)
    net.until(lambda: len(party.told(Linked)) == 2)
    net.cut(party)
    net.until(lambda: len(party.told(Linked)) == 3)
    numbers = [linked.incarnation for linked in party.told(Linked)]
    assert numbers == sorted(set(numbers))
    assert all(BOOT << 24 < number < (BOOT + 1) << 24 for number in numbers)


def test_a_broken_connection_leaves_the_will_that_bears_its_number(net: Net) -> None:
    witness, victim = net.join("witness", "will/victim"), net.join("victim")
    for times in (1, 2):
        incarnation = victim.link(times).incarnation
        net.cut(victim)
        heard = witness.hear(b"victim died as %d" % incarnation)
        assert heard.topic == net.root + "will/victim"
    late = net.join("late", "will/victim")
    assert late.hear(b"victim died as %d" % incarnation).retained


# The end


def test_who_stops_is_heard_with_the_farewell_and_not_with_the_will(net: Net) -> None:
    witness = net.join("witness", "will/+", "state")
    leaver = net.join("leaver")
    leaver.session.stop(Publish(net.root + "state", b"farewell", retain=True))
    witness.hear(b"farewell")
    # When another may use its id, the broker is through with the one that left.
    net.join("another", client_id="leaver").publish("state", b"mark")
    witness.hear(b"mark")
    assert witness.payloads == [b"farewell", b"mark"]


def test_who_stops_without_a_word_leaves_no_will_either(net: Net) -> None:
    witness, leaver = net.join("witness", "will/+", "state"), net.join("leaver")
    leaver.session.stop()
    net.join("another", client_id="leaver").publish("state", b"mark")
    witness.hear(b"mark")
    assert witness.payloads == [b"mark"]


def test_who_stopped_neither_speaks_nor_hears_nor_comes_back(net: Net) -> None:
    speaker, leaver = net.join("speaker", "news"), net.join("leaver", "news")
    leaver.session.stop()
    told = list(leaver.events)
    assert not leaver.session.publish(Publish(net.root + "news", b"a ghost"))
    speaker.publish("news", b"mark")
    speaker.hear(b"mark")
    assert leaver.events == told == [leaver.link()]
    assert speaker.payloads == [b"mark"]


def test_to_stop_twice_or_before_the_start_is_harmless(net: Net) -> None:
    party = net.join("party")
    party.session.stop()
    party.session.stop()
    net.join("never", linked=False).session.stop(Publish(net.root + "state", b"farewell"))


def test_the_newer_of_two_with_one_id_puts_the_older_out(net: Net) -> None:
    witness = net.join("witness", "will/+")
    older = net.join("older", client_id="same")
    newer = net.join("newer", client_id="same", linked=False)
    newer.session.start()
    newer.link()
    net.until(lambda: bool(older.told(Unlinked)))
    # Else it would come back and put the newer one out.
    older.session.stop()
    witness.hear(b"older died as %d" % older.link().incarnation)


# Backlog


def test_what_was_published_leaves_in_the_end(net: Net) -> None:
    speaker = net.join("speaker")
    for _ in range(20):
        speaker.publish("bulk", bytes(100_000), 0)
    net.until(lambda: speaker.session.backlog_bytes == 0)


@pytest.mark.parametrize("chunk_bytes", [120 * 1024, 1024 * 1024])
def test_bulk_that_waits_for_room_goes_out_to_the_last(tcp: OverTcp, chunk_bytes: int) -> None:
    speaker = tcp.join("speaker")
    line = tcp.lines[speaker.session]
    left = 16 * 1024 * 1024 // chunk_bytes
    heeded = 0

    def publish_while_there_is_room() -> None:
        nonlocal left
        while left and speaker.session.backlog_bytes < HIGH_WATER_BYTES:
            speaker.publish("bulk", bytes(chunk_bytes), 0)
            left -= 1

    def all_gone() -> bool:
        nonlocal heeded
        if (drained := len(speaker.told(Drained))) > heeded:
            heeded = drained
            publish_while_there_is_room()
        return not left and speaker.session.backlog_bytes == 0

    line.flows.clear()
    publish_while_there_is_room()
    assert left, "nothing was held back"
    assert speaker.session.backlog_bytes % chunk_bytes == 0
    line.flows.set()
    tcp.until(all_gone)
    assert speaker.session.traffic == (16 * 1024 * 1024 // chunk_bytes * chunk_bytes, 0)


def test_what_did_not_leave_before_the_link_broke_is_no_backlog_of_the_next(tcp: OverTcp) -> None:
    listener = tcp.join("listener", "bulk", "news")
    speaker = tcp.join("speaker")
    line = tcp.lines[speaker.session]
    line.flows.clear()
    for n in range(8):
        speaker.publish("bulk", b"%d" % n + bytes(1024 * 1024), 0)
    line.cut()
    line.flows.set()
    speaker.link(times=2)
    assert speaker.session.backlog_bytes == 0
    speaker.publish("news", b"mark")
    listener.hear(b"mark")
    # What had left may have arrived; what was held back is not sent again.
    assert len(listener.payloads) < 9
