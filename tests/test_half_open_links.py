"""A link fails when its bytes stop moving, whatever it is doing, and not because it is slow.

Keepalives are shorter here than a person may set them, so that nobody waits for long.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.start import RunningBroker
from config.settings import BrokerKind, Link
from federation import paho_connection
from federation.machine import Linked, Publish, Received, Unlinked
from federation.paho_session import PahoSession
from federation.session import Identity, SessionEvent
from tests.bad_link import BadLink, LinkFaults
from tests.processes import a_broker

LONG_S = 60.0
KEEPALIVE_S = 2
CHUNK = bytes(120 * 1024)
COUNT = 16  # as much as is handed over at most before it has left: 2 MiB
GIVEN_UP = "no byte came or left any more"


class Party:
    """A session, and what it told."""

    def __init__(self, name: str, port: int, topic: str, keepalive_s: int = KEEPALIVE_S) -> None:
        self.events: list[SessionEvent] = []
        link = Link(port=port, backoff_base_s=0.05, backoff_cap_s=0.05)
        identity = Identity(name, (topic,), lambda n: Publish(f"wills/{name}", b"%d" % n), 1)
        impatient = link.model_copy(update={"keepalive_s": keepalive_s})
        self.session = PahoSession(impatient, identity, self.events.append)
        self.session.start()
        self.told(Linked)

    def told(self, kind: type, times: int = 1) -> list[Any]:
        until(lambda: len(self._told(kind)) >= times)
        return self._told(kind)

    def publish(self, topic: str, times: int = 1) -> None:
        for _ in range(times):
            assert self.session.publish(Publish(topic, CHUNK, qos=0))

    def heard(self, topic: str, times: int = 1) -> None:
        """Wait until so many messages came on a topic, in the first connection or a later one."""
        until(lambda: [e.topic for e in self._told(Received)].count(topic) >= times)

    @property
    def breaks(self) -> list[str]:
        return [event.reason for event in self._told(Unlinked)]

    def _told(self, kind: type) -> list[Any]:
        return [event for event in list(self.events) if isinstance(event, kind)]


def until(done: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < give_up_s, "it never happened"
        time.sleep(0.02)


Join = Callable[..., Party]


@pytest.fixture
def join(monkeypatch: pytest.MonkeyPatch) -> Iterator[Join]:
    monkeypatch.setattr(paho_connection, "LOOP_S", 0.1)
    parties: list[Party] = []

    def begin(*words: Any) -> Party:
        parties.append(Party(*words))
        return parties[-1]

    yield begin
    for party in parties:
        party.session.stop()


@pytest.fixture(scope="module")
def broker(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RunningBroker]:
    kind: BrokerKind = getattr(request, "param", "mosquitto")
    with a_broker(kind, tmp_path_factory.mktemp(kind)) as running:
        yield running


on_both_brokers = pytest.mark.parametrize("broker", ["mosquitto", "embedded"], indirect=True)


@on_both_brokers
@pytest.mark.parametrize(
    ("while_", "silence"),
    [("idle", "stall"), ("idle", "blackhole"), ("sending", "stall"), ("receiving", "stall")],
)
def test_a_link_on_which_nothing_moves_any_more_is_given_up_by_both_ends(
    broker: RunningBroker, join: Join, while_: str, silence: str
) -> None:
    with BadLink(broker.port) as link:
        gateway = join("gateway", broker.port, "wills/#", 30)
        device = join("device", link.port, "down/#")
        link.faults = LinkFaults(bytes_per_s=400_000)
        if while_ == "sending":
            device.publish("up", COUNT)
            until(lambda: link.bytes_up > 200_000)
        if while_ == "receiving":
            gateway.publish("down/chunks", COUNT)
            device.heard("down/chunks", 2)
        getattr(link, silence)()
        assert GIVEN_UP in device.told(Unlinked)[0].reason
        gateway.heard("wills/device")
        link.resume()
        link.cut()  # what was swallowed meanwhile
        device.told(Linked, times=2)


def test_what_still_leaves_after_a_question_does_not_hide_that_nobody_answers(
    broker: RunningBroker, join: Join
) -> None:
    with BadLink(broker.port) as link:
        device = join("device", link.port, "down/#")
        link.blackhole()
        give_up_s = time.monotonic() + LONG_S
        while not device.breaks:
            device.session.publish(Publish("up", b"is anybody there?"))
            time.sleep(0.2)
            assert time.monotonic() < give_up_s
        assert GIVEN_UP in device.breaks[0]


def test_a_link_that_is_idle_for_many_keepalives_is_kept(broker: RunningBroker, join: Join) -> None:
    with BadLink(broker.port) as link:
        device = join("device", link.port, "down/#", 1)
        until(lambda: link.bytes_down >= 4 + 7 + 2 * 8)  # CONNACK, SUBACK, and eight PINGRESPs
        assert device.breaks == []


def test_a_ping_that_waits_behind_a_slow_upload_costs_no_link(
    broker: RunningBroker, join: Join
) -> None:
    with BadLink(broker.port, faults=LinkFaults(bytes_per_s=400_000)) as link:
        gateway = join("gateway", broker.port, "up", 30)
        device = join("device", link.port, "down/#")
        device.publish("up", COUNT)
        gateway.heard("up", COUNT)
        assert device.breaks == []


def test_an_answer_that_waits_behind_a_slow_download_costs_no_link(
    broker: RunningBroker, join: Join
) -> None:
    with BadLink(broker.port, faults=LinkFaults(bytes_per_s=400_000)) as link:
        gateway = join("gateway", broker.port, "up", 30)
        device = join("device", link.port, "down/#")
        gateway.publish("down/chunks", COUNT)
        device.heard("down/chunks", COUNT)
        assert device.breaks == []


@on_both_brokers
def test_a_packet_may_take_longer_than_the_keepalive(broker: RunningBroker, join: Join) -> None:
    with BadLink(broker.port, faults=LinkFaults(bytes_per_s=15_000)) as link:
        gateway = join("gateway", broker.port, "up", 30)
        device = join("device", link.port, "down/#")
        device.publish("up")
        gateway.heard("up")
        assert device.breaks == []


def test_what_nobody_takes_waits_at_the_broker_and_fills_no_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(paho_connection, "MOST_WAITING_BYTES", 1_000_000)
    payload = bytes(100_000)
    packet = b"\x30\xa6\x8d\x06\x00\x04news" + payload
    flooded = threading.Event()

    def flood(listener: socket.socket) -> None:
        client, _ = listener.accept()
        with client:
            client.recv(4096)
            client.sendall(b"\x20\x02\x00\x00")
            subscribe = client.recv(4096)
            client.sendall(b"\x90\x03" + subscribe[2:4] + b"\x00")
            for _ in range(300):
                client.sendall(packet)
            flooded.set()
            client.recv(1)

    inbox: list[SessionEvent] = []
    taken = 0

    def waiting_bytes() -> int:
        return sum(len(e.payload) for e in list(inbox) if isinstance(e, Received)) - taken

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=flood, args=(listener,), daemon=True).start()
        link = Link(port=listener.getsockname()[1], backoff_base_s=0.05, backoff_cap_s=0.05)
        identity = Identity("client", ("news",), lambda n: Publish("will", b"%d" % n), 1)
        session = PahoSession(link, identity, inbox.append, waiting_bytes)
        session.start()
        try:
            until(lambda: waiting_bytes() >= 1_000_000)
            assert not flooded.wait(1.0)
            assert waiting_bytes() <= 1_100_000
            while taken < 30_000_000:
                until(lambda: waiting_bytes() > 0)
                assert waiting_bytes() <= 1_100_000
                taken += waiting_bytes()
        finally:
            session.stop()
