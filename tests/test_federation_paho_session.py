"""The session over paho, where a broker is away, silent, unwilling or no broker at all."""

from __future__ import annotations

import gc
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from broker.start import start
from config.failures import ExitCode, Failure
from config.settings import BrokerSettings, Link
from federation import paho_connection, paho_session
from federation.machine import Linked, Publish, Received, Unlinked
from federation.paho_session import PahoSession
from federation.session import Identity, SessionEvent

LONG_S = 30.0
ACCEPTED = b"\x20\x02\x00\x00"
IDENTITY = Identity("client", ("news", "alerts/+"), lambda n: Publish("will", b"%d" % n), 1)

Script = Callable[[socket.socket], object]


class Client:
    """A session and what it told."""

    def __init__(self, port: int, **link: Any) -> None:
        self.events: list[SessionEvent] = []
        settings = {"backoff_base_s": 0.05, "backoff_cap_s": 0.05, **link}
        self.session = PahoSession(Link(port=port, **settings), IDENTITY, self.events.append)
        self.session.start()

    def told(self, kind: type, times: int = 1) -> list[Any]:
        """The events of a kind, once there are so many."""
        until(lambda: len(self._told(kind)) >= times)
        return self._told(kind)

    def reason(self) -> str:
        """Why there was no link for the first time."""
        reason: str = self.told(Unlinked)[0].reason
        return reason

    def _told(self, kind: type) -> list[SessionEvent]:
        return [event for event in list(self.events) if isinstance(event, kind)]


class Server:
    """What plays a broker: for each connection it follows the script."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._open: list[socket.socket] = []
        self.port: int = self._listener.getsockname()[1]
        self.served = 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._open.append(client)
                self.served += 1
                with suppress(OSError):
                    self._script(client)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._open:
            client.close()


def until(done: Callable[[], bool]) -> None:
    give_up_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < give_up_s, "it never happened"
        time.sleep(0.005)


def closed_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def accept(client: socket.socket, code: int = 0) -> None:
    """Read the CONNECT and answer it."""
    client.recv(4096)
    client.sendall(ACCEPTED[:3] + bytes([code]))


def grant(client: socket.socket, *codes: int, times: int = 1) -> None:
    """Read the SUBSCRIBE and answer it, so often."""
    accept(client)
    for _ in range(times):
        subscribe = client.recv(4096)
        client.sendall(bytes([0x90, 2 + len(codes)]) + subscribe[2:4] + bytes(codes))


def grant_less(client: socket.socket) -> None:
    """Refuse QoS 1, as a cluster does that lacks a node, and grant QoS 0."""
    grant(client, 0x80, 1)
    subscribe = client.recv(4096)
    wanted = {subscribe[at] for at in range(len(subscribe)) if subscribe[at] in (0, 1)}
    assert 0 in wanted
    client.sendall(bytes([0x90, 4]) + subscribe[2:4] + bytes([0, 0]))
    client.recv(4096)


@pytest.fixture
def serve() -> Iterator[Callable[[Script], Server]]:
    servers: list[Server] = []

    def begin(script: Script) -> Server:
        servers.append(Server(script))
        return servers[-1]

    yield begin
    for server in servers:
        server.close()


@pytest.fixture
def connect() -> Iterator[Callable[..., Client]]:
    clients: list[Client] = []

    def begin(port: int, **link: Any) -> Client:
        clients.append(Client(port, **link))
        return clients[-1]

    yield begin
    for client in clients:
        client.session.stop()


Serve = Callable[[Script], Server]
Connect = Callable[..., Client]


def test_a_session_comes_back_when_its_broker_was_killed_and_started_again(
    tmp_path: Path, connect: Connect
) -> None:
    with start(BrokerSettings(port=0, insecure=True), tmp_path / "first") as first:
        client = connect(first.port)
        client.told(Linked)
        os.kill(first.pid, signal.SIGKILL)
        client.told(Unlinked)
        assert not client.session.publish(Publish("news", b"lost"))
    with start(BrokerSettings(port=first.port, insecure=True), tmp_path / "second"):
        earlier, later = client.told(Linked, times=2)
        assert later.incarnation > earlier.incarnation
        assert client.session.publish(Publish("news", b"heard"))
        assert client.told(Received)[0].payload == b"heard"


def test_where_no_broker_is_the_reason_names_host_and_port(connect: Connect) -> None:
    port = closed_port()
    assert connect(port).reason().startswith(f"no broker at 127.0.0.1:{port} (")


def test_a_host_that_is_not_known_is_told(connect: Connect) -> None:
    client = connect(1883, host="nowhere.invalid")
    assert client.reason().startswith("no broker at nowhere.invalid:1883 (")


def test_a_name_that_is_no_host_is_told(connect: Connect) -> None:
    assert "no broker at a..b:1883" in connect(1883, host="a..b").reason()


@pytest.mark.parametrize(
    ("code", "why"), [(2, "identifier"), (3, "unavailable"), (4, "user name"), (5, "authorized")]
)
def test_a_broker_that_refuses_is_told_with_its_reason(
    serve: Serve, connect: Connect, code: int, why: str
) -> None:
    server = serve(lambda client: accept(client, code))
    client = connect(server.port)
    reason = client.reason()
    assert f"127.0.0.1:{server.port}" in reason
    assert "the broker refused: " in reason
    assert why in reason.lower()
    client.told(Unlinked, times=2)
    assert Linked not in map(type, client.events)


def test_a_broker_that_grants_less_than_was_asked_for_gives_a_link(
    serve: Serve, connect: Connect
) -> None:
    client = connect(serve(grant_less).port)
    client.told(Linked)


@pytest.mark.parametrize("codes", [(0x80, 0x80), (1, 0x80), (0x80, 1)])
def test_a_broker_that_refuses_a_subscription_gives_no_link(
    serve: Serve, connect: Connect, codes: tuple[int, int]
) -> None:
    server = serve(lambda client: grant(client, *codes, times=2))
    client = connect(server.port)
    assert "refused to let us read news, alerts/+" in client.reason()
    assert Linked not in map(type, client.events)


def test_no_link_is_told_before_the_subscriptions_are_granted(
    serve: Serve, connect: Connect
) -> None:
    hesitating, go_on = threading.Event(), threading.Event()

    def hesitate(client: socket.socket) -> None:
        accept(client)
        subscribe = client.recv(4096)
        hesitating.set()
        go_on.wait(LONG_S)
        client.sendall(b"\x90\x04" + subscribe[2:4] + b"\x01\x00")

    client = connect(serve(hesitate).port)
    until(hesitating.is_set)
    assert not client.session.publish(Publish("news", b"too early"))
    assert client.events == []
    go_on.set()
    client.told(Linked)


@pytest.mark.parametrize("words", [b"", ACCEPTED], ids=["says nothing", "accepts and is silent"])
def test_a_silent_server_is_given_up_and_told(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    monkeypatch.setattr(paho_connection, "CONNECT_TIMEOUT_S", 0.05)
    monkeypatch.setattr(paho_connection, "LOOP_S", 0.02)
    server = serve(lambda client: client.sendall(words))
    client = connect(server.port)
    assert "the broker does not answer" in client.reason()
    assert f"127.0.0.1:{server.port}" in client.reason()
    client.told(Unlinked, times=2)


@pytest.mark.parametrize(
    "words",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x20\x00",
        b"\x20\x01\x00",
        b"\x20\x03\x00\x00\x00",
        b"\x90\x00",
        ACCEPTED + b"\x90\x01\x00",
        ACCEPTED + b"\x30\x00",
        ACCEPTED + b"\x30\x02\x00\x00",
        ACCEPTED + b"\x32\x03\x00\x01a",
        ACCEPTED + b"\x40\x01\x00",
        ACCEPTED + b"\x00\x00",
        b"\xff\xff\xff\xff\xff\xff",
    ],
)
def test_a_server_that_speaks_no_mqtt_is_told_and_tried_again(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch, words: bytes
) -> None:
    # Some of this reads like the beginning of something longer, and that is waited for.
    monkeypatch.setattr(paho_connection, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(paho_connection, "LOOP_S", 0.05)
    server = serve(lambda client: (client.recv(4096), client.sendall(words)))
    client = connect(server.port)
    assert f"connection to 127.0.0.1:{server.port} ended (" in client.reason()
    client.told(Unlinked, times=2)
    assert server.served >= 2


def test_a_topic_that_is_no_text_is_received_as_one_of_nobodys(
    serve: Serve, connect: Connect
) -> None:
    def mumble(client: socket.socket) -> None:
        grant(client, 1, 1)
        client.sendall(b"\x30\x05\x00\x02\xff\xfex")

    client = connect(serve(mumble).port)
    assert client.told(Received) == [Received("\ufffd", b"x", retained=False)]


def test_waits_are_drawn_anew_each_time(connect: Connect) -> None:
    port = closed_port()
    clients = [connect(port, backoff_base_s=500, backoff_cap_s=500) for _ in range(6)]
    waits = {client.reason().rsplit("trying again in ", 1)[1] for client in clients}
    assert len(waits) > 1


@pytest.fixture
def failures(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The failures in a row that each wait was drawn for; nobody waits."""
    counted: list[int] = []

    def draw(failures: int, *_: float) -> float:
        counted.append(failures)
        return 0.0

    monkeypatch.setattr(paho_session, "reconnect_wait_s", draw)
    return counted


def test_attempts_in_a_row_that_come_to_nothing_are_counted(
    connect: Connect, failures: list[int]
) -> None:
    client = connect(closed_port())
    client.told(Unlinked, times=6)
    assert failures[:6] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("stable_s", [0.0, 1e9])
def test_only_a_connection_that_held_begins_the_backoff_anew(
    serve: Serve,
    connect: Connect,
    failures: list[int],
    monkeypatch: pytest.MonkeyPatch,
    stable_s: float,
) -> None:
    monkeypatch.setattr(paho_connection, "STABLE_S", stable_s)

    def hang_up(client: socket.socket) -> None:
        grant(client, 1, 1)
        client.shutdown(socket.SHUT_RDWR)

    client = connect(serve(hang_up).port)
    client.told(Unlinked, times=3)
    assert failures[:3] == ([0, 0, 0] if stable_s == 0.0 else [1, 2, 3])


def test_a_connection_that_carried_something_begins_the_backoff_anew_however_short(
    serve: Serve, connect: Connect, failures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paho_connection, "STABLE_S", 1e9)
    chunk = b"\x30\x86\x80\x10\x00\x04news" + bytes(256 * 1024)

    def send_and_hang_up(client: socket.socket) -> None:
        grant(client, 1, 1)
        client.sendall(chunk)
        client.shutdown(socket.SHUT_RDWR)

    client = connect(serve(send_and_hang_up).port)
    client.told(Unlinked, times=3)
    assert failures[:3] == [0, 0, 0]


def mqtt_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "mqtt"]


def test_a_session_can_be_stopped_while_it_waits_to_try_again(connect: Connect) -> None:
    client = connect(closed_port(), backoff_base_s=600, backoff_cap_s=600)
    client.told(Unlinked)
    client.session.stop()
    assert mqtt_threads() == []


@pytest.mark.parametrize("words", [b"", ACCEPTED], ids=["before", "after the answer"])
def test_a_session_can_be_stopped_while_it_waits_for_an_answer(
    serve: Serve, connect: Connect, words: bytes
) -> None:
    server = serve(lambda client: client.sendall(words))
    client = connect(server.port)
    until(lambda: server.served == 1)
    client.session.stop()
    assert mqtt_threads() == []
    assert client.events == []


def test_a_link_that_comes_up_while_stopping_is_let_go_and_not_told(
    serve: Serve, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    last_words: list[bytes] = []
    adopt = PahoSession._adopt

    def stop_just_before(session: PahoSession, connection: Any) -> bool:
        session._ending.set()
        return adopt(session, connection)

    def grant_and_listen(client: socket.socket) -> None:
        grant(client, 1, 1)
        last_words.append(client.recv(4096))

    monkeypatch.setattr(PahoSession, "_adopt", stop_just_before)
    client = connect(serve(grant_and_listen).port)
    until(lambda: bool(last_words))
    assert last_words == [b"\xe0\x00"], "an orderly DISCONNECT"
    until(lambda: mqtt_threads() == [])
    assert client.events == []


def test_connections_that_ended_hold_no_sockets(serve: Serve, connect: Connect) -> None:
    def hang_up(client: socket.socket) -> None:
        grant(client, 1, 1)
        client.close()

    server = serve(hang_up)
    gc.collect()
    gc.disable()
    try:
        client = connect(server.port)
        client.told(Unlinked, times=2)
        few = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
        client.told(Unlinked, times=12)
        many = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    finally:
        gc.enable()
    # One attempt holds three sockets here, and two there: the rest would be left over.
    assert many - few <= 5


def test_certificates_that_cannot_be_loaded_are_a_clear_failure(tmp_path: Path) -> None:
    link = Link(tls=True, ca_file=tmp_path / "ca.pem")
    with pytest.raises(Failure, match=f"TLS: cannot load {tmp_path}/ca.pem: ") as caught:
        PahoSession(link, IDENTITY, lambda _: None)
    assert caught.value.code is ExitCode.CONFIG


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
def test_a_broker_that_knows_no_tls_is_told(serve: Serve, connect: Connect) -> None:
    server = serve(lambda client: (client.recv(4096), client.sendall(b"400 Bad Request\r\n")))
    client = connect(server.port, tls=True)
    assert client.reason().startswith(f"no broker at 127.0.0.1:{server.port} (")


def test_name_and_password_reach_the_broker(serve: Serve, connect: Connect) -> None:
    heard: list[bytes] = []
    server = serve(lambda client: heard.append(client.recv(4096)))
    connect(server.port, username="camera", password="secret")
    until(lambda: bool(heard))
    assert b"\x00\x06camera\x00\x06secret" in heard[0]
    assert heard[0][2:9] == b"\x00\x04MQTT\x04", "MQTT 3.1.1"
    assert heard[0][9] & 0x02, "a clean session"
