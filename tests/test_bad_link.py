"""The link that fails does what it is told, and nothing else."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from tests.bad_link import BadLink, LinkFaults

LONG_S = 30.0


class Echo:
    """A server that sends back what comes."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._echo, args=(client,), daemon=True).start()

    def _echo(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            while data := client.recv(65536):
                client.sendall(data)

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def echo() -> Iterator[Echo]:
    server = Echo()
    yield server
    server.close()


def call(link: BadLink, timeout_s: float = LONG_S) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=timeout_s)


def read(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := client.recv(size - len(data))):
        data += more
    return data


def read_to_the_end(client: socket.socket) -> bytes:
    data = b""
    with suppress(ConnectionError):
        while more := client.recv(65536):
            data += more
    return data


def test_without_faults_all_bytes_pass_both_ways_and_are_counted(echo: Echo) -> None:
    words = bytes(range(256)) * 2000
    with BadLink(echo.port) as link, call(link) as client:
        threading.Thread(target=client.sendall, args=(words,), daemon=True).start()
        assert read(client, len(words)) == words
        until(lambda: link.bytes_up + link.bytes_down >= 2 * len(words))
        assert link.bytes_up == link.bytes_down == len(words)


def test_the_end_of_one_side_reaches_the_other_after_all_its_bytes(echo: Echo) -> None:
    with BadLink(echo.port, faults=LinkFaults(delay_s=0.05)) as link, call(link) as client:
        client.sendall(b"the last words")
        client.shutdown(socket.SHUT_WR)
        assert read_to_the_end(client) == b"the last words"


def test_a_cut_ends_all_connections_and_lets_new_ones_in(echo: Echo) -> None:
    with BadLink(echo.port) as link:
        with call(link) as one, call(link) as other:
            for client in (one, other):
                client.sendall(b"hello")
                assert read(client, 5) == b"hello"
            link.cut()
            assert read_to_the_end(one) == read_to_the_end(other) == b""
        assert link.cuts == 2
        with call(link) as again:
            again.sendall(b"hello")
            assert read(again, 5) == b"hello"


def test_who_is_refused_is_reset_until_it_is_no_more(echo: Echo) -> None:
    with BadLink(echo.port) as link:
        link.refuse = True
        assert is_cut_off(link)
        link.refuse = False
        with call(link) as client:
            client.sendall(b"hello")
            assert read(client, 5) == b"hello"


def test_a_stalled_link_moves_nothing_and_loses_nothing(echo: Echo) -> None:
    with BadLink(echo.port) as link, call(link, timeout_s=0.2) as client:
        client.sendall(b"one")
        assert read(client, 3) == b"one"
        link.stall()
        client.sendall(b"two")
        with pytest.raises(TimeoutError):
            client.recv(1)
        link.resume()
        client.settimeout(LONG_S)
        assert read(client, 3) == b"two"


def test_a_black_hole_takes_everything_and_delivers_nothing(echo: Echo) -> None:
    with BadLink(echo.port) as link, call(link, timeout_s=0.2) as client:
        client.sendall(b"one")
        assert read(client, 3) == b"one"
        link.blackhole()
        client.sendall(bytes(5_000_000))
        with call(link, timeout_s=0.2) as another, pytest.raises(TimeoutError):
            another.recv(1)
        link.resume()
        with pytest.raises(TimeoutError):
            client.recv(1)  # what was swallowed never comes, nor does what follows it
        with call(link) as another:
            another.sendall(b"hello")
            assert read(another, 5) == b"hello"
        until(lambda: link.bytes_up >= 8)
        assert link.bytes_up == 8


def test_a_link_carries_no_more_than_its_rate(echo: Echo) -> None:
    with BadLink(echo.port, faults=LinkFaults(bytes_per_s=200_000)) as link, call(link) as client:
        began_s = time.monotonic()
        client.sendall(bytes(100_000))
        assert read(client, 100_000) == bytes(100_000)
        assert time.monotonic() - began_s >= 0.5


def test_every_byte_takes_its_delay_each_way(echo: Echo) -> None:
    with BadLink(echo.port, faults=LinkFaults(delay_s=0.1)) as link, call(link) as client:
        began_s = time.monotonic()
        client.sendall(b"hello")
        assert read(client, 5) == b"hello"
        assert time.monotonic() - began_s >= 0.2


def until(done: Callable[[], bool]) -> None:
    """Wait: a link counts what it carried a moment after it arrived."""
    give_up_s = time.monotonic() + LONG_S
    while not done():
        assert time.monotonic() < give_up_s, "it never happened"
        time.sleep(0.001)


def is_cut_off(link: BadLink) -> bool:
    """Whether a new connection is ended before anything came; the reset may come while it opens."""
    try:
        with call(link) as client:
            return client.recv(1) == b""
    except ConnectionError:
        return True


def carried_until_cut(echo: Echo, seed: int) -> list[int]:
    carried = []
    with BadLink(echo.port, seed, LinkFaults(cut_at_bytes=(1000, 100_000))) as link:
        for _ in range(3):
            before = link.bytes_up + link.bytes_down
            with call(link) as client, suppress(ConnectionError):
                client.sendall(bytes(200_000))
                read_to_the_end(client)
            carried.append(link.bytes_up + link.bytes_down - before)
    return carried


def test_connections_are_cut_at_bytes_that_follow_from_the_seed(echo: Echo) -> None:
    carried = carried_until_cut(echo, seed=7)
    assert carried == carried_until_cut(echo, seed=7) != carried_until_cut(echo, seed=8)
    assert all(1000 <= size <= 100_000 for size in carried)


def test_a_link_is_cut_by_its_schedule_again_and_again(echo: Echo) -> None:
    with BadLink(echo.port, faults=LinkFaults(cut_every_s=(0.01, 0.05))) as link:
        for _ in range(3):
            assert is_cut_off(link)
        assert link.cuts >= 3


def test_a_link_that_stalls_by_its_schedule_loses_nothing(echo: Echo) -> None:
    stalling = LinkFaults(stall_every_s=(0.01, 0.02), stall_for_s=(0.01, 0.02))
    words = bytes(range(256)) * 10_000
    with BadLink(echo.port, faults=stalling) as link, call(link) as client:
        threading.Thread(target=client.sendall, args=(words,), daemon=True).start()
        assert read(client, len(words)) == words


def test_a_link_follows_its_broker_to_another_port(echo: Echo) -> None:
    with BadLink(to_port=1) as link:
        assert is_cut_off(link)
        link.to_port = echo.port
        with call(link) as client:
            client.sendall(b"hello")
            assert read(client, 5) == b"hello"
