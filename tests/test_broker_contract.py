"""What Flockwise asks of a broker, held against every broker that it can start.

A broker that passes here will do. Nothing of MQTT 5 and nothing durable is asked for.
"""

from __future__ import annotations

import hashlib
import os
import queue
import signal
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from broker.address import Address, accepts_connect
from broker.start import RunningBroker, choose, start
from config.failures import Failure
from config.settings import BrokerKind, BrokerSettings

KINDS: tuple[BrokerKind, ...] = ("mosquitto", "embedded")
LONG_S = 20.0
CHUNK_BYTES = 120 * 1024


class Client:
    """A client that says what it heard, in order: a thin layer over paho."""

    def __init__(self, broker: RunningBroker, client_id: str, keepalive_s: int = 30) -> None:
        self.heard: queue.Queue[mqtt.MQTTMessage] = queue.Queue()
        self.ended: queue.Queue[str] = queue.Queue()
        self._answers: queue.Queue[int] = queue.Queue()
        self._marks = 0
        self.id = client_id
        self.paho = mqtt.Client(
            CallbackAPIVersion.VERSION2, client_id, clean_session=True, reconnect_on_failure=False
        )
        self.paho.on_connect = lambda *_: self._answers.put(0)
        self.paho.on_subscribe = lambda _c, _u, mid, *_: self._answers.put(mid)
        self.paho.on_unsubscribe = lambda _c, _u, mid, *_: self._answers.put(mid)
        self.paho.on_message = lambda _c, _u, message: self.heard.put(message)
        self.paho.on_disconnect = lambda _c, _u, _f, reason, _p: self.ended.put(str(reason))
        self.paho.on_socket_open = lambda _c, _u, link: send_at_once(link)
        self.paho.max_inflight_messages_set(1000)
        self._where = (broker.host, broker.port, keepalive_s)

    def __enter__(self) -> Self:
        self.paho.connect(*self._where)
        self.paho.loop_start()
        self._answers.get(timeout=LONG_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def subscribe(self, topic: str, qos: int = 1) -> None:
        _, mid = self.paho.subscribe(topic, qos)
        assert self._answers.get(timeout=LONG_S) == mid

    def unsubscribe(self, topic: str) -> None:
        _, mid = self.paho.unsubscribe(topic)
        assert self._answers.get(timeout=LONG_S) == mid

    def publish(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        info = self.paho.publish(topic, payload, qos, retain)
        info.wait_for_publish(LONG_S)
        assert info.is_published()

    def hear(self) -> mqtt.MQTTMessage:
        return self.heard.get(timeout=LONG_S)

    def hears_nothing_more(self, speaker: Client) -> bool:
        """Whether nothing is before a mark that the speaker publishes now."""
        self._marks += 1
        mark = f"mark/{self.id}/{self._marks}"
        self.subscribe(mark)
        speaker.publish(mark, b"", 1)
        return self.hear().topic == mark


def send_at_once(link: object) -> None:
    """Without this each small message may wait 40 ms for the ACK of the one before."""
    assert isinstance(link, socket.socket)
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def connect_packet(client_id: str, keepalive_s: int, will: tuple[str, bytes] | None) -> bytes:
    """A CONNECT of MQTT 3.1.1 with a clean session and, if given, a retained QoS 1 will."""

    def field(data: bytes) -> bytes:
        return struct.pack("!H", len(data)) + data

    flags = 0x02 if will is None else 0x02 | 0x04 | 0x08 | 0x20
    body = field(b"MQTT") + bytes((4, flags)) + struct.pack("!H", keepalive_s)
    body += field(client_id.encode())
    if will is not None:
        body += field(will[0].encode()) + field(will[1])
    assert len(body) < 128
    return bytes((0x10, len(body))) + body


def raw_client(
    broker: RunningBroker, client_id: str, keepalive_s: int, will: tuple[str, bytes] | None = None
) -> socket.socket:
    """A connected socket that will do nothing by itself."""
    link = socket.create_connection((broker.host, broker.port), LONG_S)
    link.sendall(connect_packet(client_id, keepalive_s, will))
    assert link.recv(4) == b"\x20\x02\x00\x00"
    return link


def resident_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def started(kind: BrokerKind, directory: Path, port: int = 0) -> RunningBroker:
    try:
        choose(kind)
    except Failure as failure:
        pytest.skip(str(failure))
    return start(BrokerSettings(kind=kind, port=port, insecure=True), directory)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> BrokerKind:
    chosen: BrokerKind = request.param
    return chosen


@pytest.fixture(scope="module")
def broker(kind: BrokerKind, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with started(kind, tmp_path_factory.mktemp(kind)) as running:
        yield running


@pytest.fixture
def root(request: pytest.FixtureRequest) -> str:
    """A part of the topics that is this test's own."""
    return f"{request.node.originalname}"


@pytest.fixture
def alice(broker: RunningBroker) -> Iterator[Client]:
    with Client(broker, "alice") as client:
        yield client


@pytest.fixture
def bob(broker: RunningBroker) -> Iterator[Client]:
    with Client(broker, "bob") as client:
        yield client


@pytest.mark.parametrize("qos", [0, 1])
def test_a_message_reaches_its_subscriber(alice: Client, bob: Client, root: str, qos: int) -> None:
    bob.subscribe(f"{root}/t", qos)
    alice.publish(f"{root}/t", b"hello", qos)
    heard = bob.hear()
    assert (heard.topic, heard.payload, heard.qos) == (f"{root}/t", b"hello", qos)
    assert not heard.retain


def test_a_message_is_delivered_with_the_lower_qos(alice: Client, bob: Client, root: str) -> None:
    bob.subscribe(f"{root}/low", 0)
    bob.subscribe(f"{root}/high", 1)
    alice.publish(f"{root}/low", b"", 1)
    alice.publish(f"{root}/high", b"", 0)
    assert [bob.hear().qos, bob.hear().qos] == [0, 0]


def test_many_messages_of_one_client_arrive_in_order(alice: Client, bob: Client, root: str) -> None:
    bob.subscribe(f"{root}/t")
    sent = [str(number).encode() for number in range(500)]
    for payload in sent:
        alice.paho.publish(f"{root}/t", payload, 1)
    assert [bob.hear().payload for _ in sent] == sent


def test_a_filter_with_a_plus_hears_every_device(alice: Client, bob: Client, root: str) -> None:
    bob.subscribe(f"{root}/device/+/up")
    for topic in ("device/a/up", "device/b/down", "device/a/b/up", "device/c/up"):
        alice.publish(f"{root}/{topic}", b"")
    assert [bob.hear().topic for _ in range(2)] == [f"{root}/device/a/up", f"{root}/device/c/up"]
    assert bob.hears_nothing_more(alice)


def test_a_retained_message_is_delivered_on_subscribing(
    alice: Client, bob: Client, root: str
) -> None:
    alice.publish(f"{root}/t", b"one", retain=True)
    bob.subscribe(f"{root}/t")
    heard = bob.hear()
    assert (heard.payload, heard.retain) == (b"one", True)


def test_a_retained_message_is_delivered_again_on_subscribing_again(
    alice: Client, bob: Client, root: str
) -> None:
    alice.publish(f"{root}/t", b"one", retain=True)
    bob.subscribe(f"{root}/t")
    bob.subscribe(f"{root}/t")
    assert [bob.hear().payload, bob.hear().payload] == [b"one", b"one"]


def test_a_retained_message_replaces_the_one_before(alice: Client, bob: Client, root: str) -> None:
    alice.publish(f"{root}/t", b"one", retain=True)
    alice.publish(f"{root}/t", b"two", 0, retain=True)
    alice.publish(f"{root}/t", b"not retained")
    bob.subscribe(f"{root}/t")
    assert bob.hear().payload == b"two"
    assert bob.hears_nothing_more(alice)


def test_a_subscriber_hears_a_new_retained_message_as_a_live_one(
    alice: Client, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"one", retain=True)
    heard = bob.hear()
    assert (heard.payload, heard.retain) == (b"one", False)


def test_an_empty_retained_message_clears_the_topic(alice: Client, bob: Client, root: str) -> None:
    alice.publish(f"{root}/t", b"one", retain=True)
    alice.publish(f"{root}/t", b"", retain=True)
    bob.subscribe(f"{root}/t")
    assert bob.hears_nothing_more(alice)


def test_an_acknowledged_retained_message_is_there_for_the_next_who_asks(
    alice: Client, bob: Client, root: str
) -> None:
    for number in range(20):
        alice.publish(f"{root}/{number}", b"here", retain=True)
        bob.subscribe(f"{root}/{number}")
        assert bob.hear().retain


def test_a_client_hears_retained_messages_only_of_its_own_topics(
    broker: RunningBroker, alice: Client, root: str
) -> None:
    alice.publish(f"{root}/model", b"large", retain=True)
    alice.subscribe(f"{root}/model")
    with Client(broker, "newcomer") as newcomer:
        assert newcomer.hears_nothing_more(newcomer)


def test_newcomers_are_served_while_others_come_and_go(
    broker: RunningBroker, alice: Client, root: str
) -> None:
    for number in range(20):
        alice.publish(f"{root}/{number}", b"x" * 1000, retain=True)
        alice.subscribe(f"{root}/{number}")
    for number in range(20):
        with Client(broker, f"newcomer-{number}") as newcomer:
            alice.paho.unsubscribe(f"{root}/{number}")
            alice.paho.subscribe(f"{root}/more/{number}")
            newcomer.subscribe(f"{root}/{number}")
            assert newcomer.hear().payload == b"x" * 1000


def test_a_broken_connection_publishes_its_will(
    broker: RunningBroker, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    raw_client(broker, "carol", 30, (f"{root}/presence", b"offline")).close()
    assert bob.hear().payload == b"offline"


def test_a_retained_will_takes_the_place_of_the_presence(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    carol = Client(broker, "carol")
    carol.paho.will_set(f"{root}/presence", b"offline", 1, retain=True)
    with carol:
        carol.publish(f"{root}/presence", b"online", retain=True)
        assert bob.hear().payload == b"online"
        broken = carol.paho.socket()
        assert isinstance(broken, socket.socket)
        broken.shutdown(socket.SHUT_RDWR)
        assert bob.hear().payload == b"offline"
    alice.subscribe(f"{root}/presence")
    heard = alice.hear()
    assert (heard.payload, heard.retain) == (b"offline", True)


def test_a_will_comes_after_what_its_client_had_said(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/#")
    for number in range(20):
        topic = f"{root}/{number}"
        link = raw_client(broker, "carol", 30, (topic, b"offline"))
        said = struct.pack("!H", len(topic)) + topic.encode() + b"online"
        packet = bytes((0x31, len(said))) + said
        assert len(said) < 128
        link.sendall(packet)
        link.close()
        assert [bob.hear().payload, bob.hear().payload] == [b"online", b"offline"]
        alice.subscribe(topic)
        assert alice.hear().payload == b"offline"


def test_a_clean_disconnect_publishes_no_will(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    link = raw_client(broker, "carol", 30, (f"{root}/presence", b"offline"))
    link.sendall(b"\xe0\x00")
    link.close()
    # The same id coming back shows that the broker is done with the connection before.
    raw_client(broker, "carol", 30).close()
    assert bob.hears_nothing_more(alice)


def test_acknowledged_words_are_delivered_though_the_client_then_disconnects(
    broker: RunningBroker, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    for number in range(20):
        carol = Client(broker, f"carol-{number}")
        with carol:
            for word in range(9):
                carol.paho.publish(f"{root}/presence", str(word).encode(), 1)
            carol.publish(f"{root}/presence", b"9")
        assert [bob.hear().payload for _ in range(10)] == [b"%d" % word for word in range(10)]


def test_a_silent_connection_publishes_its_will_when_the_keepalive_is_over(
    broker: RunningBroker, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    with raw_client(broker, "carol", 1, (f"{root}/presence", b"offline")) as link:
        assert bob.hear().payload == b"offline"
        assert link.recv(1) == b""


def test_a_connection_that_only_pings_is_kept(broker: RunningBroker, root: str) -> None:
    with raw_client(broker, "carol", 1, (f"{root}/presence", b"offline")) as link:
        for _ in range(5):
            time.sleep(0.6)
            link.sendall(b"\xc0\x00")
            assert link.recv(2) == b"\xd0\x00"


def test_a_clean_session_forgets_its_subscriptions(
    broker: RunningBroker, alice: Client, root: str
) -> None:
    with Client(broker, "carol") as before:
        before.subscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"while away")
    with Client(broker, "carol") as after:
        alice.publish(f"{root}/t", b"while back")
        assert after.hears_nothing_more(alice)


def test_a_second_client_with_the_same_id_takes_the_first_one_over(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    bob.subscribe(f"{root}/presence")
    first = Client(broker, "carol")
    first.paho.will_set(f"{root}/presence", b"first is gone", 1)
    with first:
        first.subscribe(f"{root}/t")
        with Client(broker, "carol") as second:
            assert first.ended.get(timeout=LONG_S)
            assert bob.hear().payload == b"first is gone"
            second.subscribe(f"{root}/u")
            alice.publish(f"{root}/t", b"for the first")
            alice.publish(f"{root}/u", b"for the second")
            assert second.hear().payload == b"for the second"
            assert first.heard.empty()


def test_the_will_of_one_that_was_taken_over_comes_before_the_words_of_the_next(
    broker: RunningBroker, alice: Client, root: str
) -> None:
    for number in range(10):
        topic = f"{root}/{number}"
        with raw_client(broker, "carol", 30, (topic, b"offline")), Client(broker, "carol") as next_:
            next_.publish(topic, b"online", retain=True)
            alice.subscribe(topic)
            assert alice.hear().payload == b"online"


def test_a_client_hears_what_it_publishes_itself(alice: Client, root: str) -> None:
    alice.subscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"echo")
    assert alice.hear().payload == b"echo"


def test_a_message_to_nobody_is_acknowledged(alice: Client, root: str) -> None:
    info = alice.paho.publish(f"{root}/nobody", b"x", 1)
    info.wait_for_publish(LONG_S)
    assert info.is_published()


def test_unsubscribing_stops_delivery(alice: Client, bob: Client, root: str) -> None:
    bob.subscribe(f"{root}/t")
    bob.unsubscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"unheard")
    assert bob.hears_nothing_more(alice)


def test_subscribing_right_after_unsubscribing_is_subscribed(
    alice: Client, bob: Client, root: str
) -> None:
    for number in range(20):
        topic = f"{root}/{number}"
        alice.publish(topic, b"chunk", retain=True)
        bob.subscribe(topic)
        assert bob.hear().payload == b"chunk"
        # Without waiting for the answers, as a fetch does that begins anew.
        bob.paho.unsubscribe(topic)
        bob.paho.subscribe(topic, 1)
        assert bob.hear().payload == b"chunk"
        alice.publish(topic, b"live")
        assert bob.hear().payload == b"live"
        bob._answers.get(timeout=LONG_S)
        bob._answers.get(timeout=LONG_S)


def test_two_federations_do_not_hear_each_other(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    alice.publish(f"{root}/one/model", b"model of one", retain=True)
    bob.subscribe(f"{root}/two/+")
    bob.subscribe(f"{root}/two/device/+/up")
    alice.publish(f"{root}/one/coordinator", b"")
    alice.publish(f"{root}/one/device/a/up", b"")
    alice.publish(f"{root}/two/device/a/up", b"mine")
    assert bob.hear().payload == b"mine"
    assert bob.hears_nothing_more(alice)


@pytest.mark.parametrize("qos", [0, 1])
def test_two_hundred_chunks_arrive_whole_and_in_order(
    alice: Client, bob: Client, root: str, qos: int
) -> None:
    bob.subscribe(f"{root}/t", qos)
    sent, heard = hashlib.sha256(), hashlib.sha256()
    block = os.urandom(CHUNK_BYTES)
    window = 16
    for number in range(200 + window):
        if number < 200:
            chunk = number.to_bytes(4, "big") + block[4:]
            sent.update(chunk)
            alice.paho.publish(f"{root}/t", chunk, qos)
        if number >= window:
            heard.update(bob.hear().payload)
    assert heard.digest() == sent.digest()


def test_a_retained_model_is_fetched_by_window(alice: Client, bob: Client, root: str) -> None:
    block = os.urandom(CHUNK_BYTES)
    chunks = [number.to_bytes(4, "big") + block[4:] for number in range(32)]
    for number, chunk in enumerate(chunks):
        alice.publish(f"{root}/{number}", chunk, 0, retain=True)
    alice.publish(f"{root}/header", b"", retain=True)
    for first in range(0, 32, 4):
        topics = [f"{root}/{number}" for number in range(first, first + 4)]
        bob.paho.subscribe([(topic, 0) for topic in topics])
        assert sorted(bob.hear().payload for _ in topics) == chunks[first : first + 4]
        bob.paho.unsubscribe(topics)


def test_a_client_that_does_not_read_holds_up_nobody_and_fills_no_memory(
    broker: RunningBroker, alice: Client, bob: Client, root: str
) -> None:
    with raw_client(broker, "stuck", 600) as stuck:
        stuck.sendall(b"\x82" + bytes((len(root) + 7,)) + b"\x00\x01")
        name = f"{root}/t".encode()
        stuck.sendall(struct.pack("!H", len(name)) + name + b"\x00")
        assert stuck.recv(5) == b"\x90\x03\x00\x01\x00"
        bob.subscribe(f"{root}/t", 0)
        chunk = os.urandom(CHUNK_BYTES)
        before = resident_bytes(broker.pid)
        for _ in range(1000):
            alice.paho.publish(f"{root}/t", chunk, 0)
            assert bob.hear().payload == chunk
        assert resident_bytes(broker.pid) - before < 80 * 2**20


def test_a_packet_of_monstrous_size_ends_its_connection_only(
    broker: RunningBroker, alice: Client, root: str
) -> None:
    before = resident_bytes(broker.pid)
    with raw_client(broker, "carol", 30) as link:
        link.sendall(b"\x30\xff\xff\xff\x7f")
        link.sendall(b"\x00\x01t")
        with suppress(ConnectionError):
            assert link.recv(1) == b""
    alice.subscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"still here")
    assert alice.hear().payload == b"still here"
    assert resident_bytes(broker.pid) - before < 32 * 2**20


@pytest.mark.parametrize(
    "rubbish", [b"GET / HTTP/1.1\r\n\r\n", b"\x10\x00", b"\x00" * 64, b"\xff" * 64]
)
def test_what_is_not_mqtt_ends_its_connection_only(
    broker: RunningBroker, alice: Client, root: str, rubbish: bytes
) -> None:
    with socket.create_connection((broker.host, broker.port), LONG_S) as link:
        link.sendall(rubbish)
        with suppress(ConnectionError):
            assert link.recv(1) == b""
    alice.subscribe(f"{root}/t")
    alice.publish(f"{root}/t", b"still here")
    assert alice.hear().payload == b"still here"


def test_a_restarted_broker_has_forgotten_what_was_retained(
    kind: BrokerKind, tmp_path: Path
) -> None:
    with started(kind, tmp_path) as first:
        with Client(first, "alice") as alice:
            alice.publish("t", b"one", retain=True)
        os.kill(first.pid, signal.SIGKILL)
        first.wait()
        with started(kind, tmp_path, first.port) as second, Client(second, "bob") as bob:
            assert second.port == first.port
            bob.subscribe("t")
            assert bob.hears_nothing_more(bob)


def test_the_probe_sees_whether_a_broker_answers(kind: BrokerKind, tmp_path: Path) -> None:
    with started(kind, tmp_path) as running:
        address = Address(running.host, running.port)
        assert accepts_connect(address)
    assert not accepts_connect(address)
