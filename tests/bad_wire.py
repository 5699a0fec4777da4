"""A wire that loses packets, between this machine and a network namespace of its own.

`netem_wire` is a pair of veth with `tc netem` at both ends. Where the kernel has no netem,
`relayed_wire` does the same to a pair of TUN devices: a thread carries each IP packet over, late
and no faster than the rate, or not at all. When the wire is down no end hears of it: no FIN, no
RST. Both need root, and skip the test with the reason where they cannot be had.
"""

from __future__ import annotations

import fcntl
import heapq
import os
import random
import select
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count

import pytest

LOSS_PERCENT = 5.0
DELAY_S = 0.1
BITS_PER_S = 1_000_000
QUEUE_PACKETS = 100
_TUN, _NO_HEADER = 0x0001, 0x1000
_SET_INTERFACE = 0x400454CA


@dataclass(frozen=True, slots=True)
class Wire:
    """Attributes:
    host: this machine's address on the wire.
    under: the command that runs a command at the other end.
    cut: let no packet through any more; `mend` ends it.
    """

    host: str
    under: tuple[str, ...]
    cut: Callable[[], None]
    mend: Callable[[], None]


@contextmanager
def netem_wire() -> Iterator[Wire]:
    """A wire of veth and netem."""
    near, far, space = _names()
    with _namespace(space):
        _ip("link", "add", near, "type", "veth", "peer", "name", far)
        try:
            host = _addresses(near, far, space)
            rule = (
                f"netem loss {LOSS_PERCENT}% delay {DELAY_S * 1000:.0f}ms rate {BITS_PER_S}bit"
                f" limit {QUEUE_PACKETS}"
            ).split()
            _run("tc", "qdisc", "add", "dev", near, "root", *rule)
            _run("ip", "netns", "exec", space, "tc", "qdisc", "add", "dev", far, "root", *rule)

            def lose(percent: float) -> None:
                changed = ["loss", f"{percent}%", *rule[3:]]
                for prefix, name in ((), near), (("ip", "netns", "exec", space), far):
                    words = [*prefix, "tc", "qdisc", "change", "dev", name, "root", "netem"]
                    subprocess.run([*words, *changed], check=True)

            under = ("ip", "netns", "exec", space)
            yield Wire(host, under, lambda: lose(100), lambda: lose(LOSS_PERCENT))
        finally:
            _ip("link", "del", near)


@contextmanager
def relayed_wire(seed: int = 0) -> Iterator[Wire]:
    """A wire of TUN devices and a thread."""
    near, far, space = _names()
    with _namespace(space), _tun(near) as near_end, _tun(far) as far_end:
        host = _addresses(near, far, space)
        relay = _Relay(near_end, far_end, random.Random(seed))
        thread = threading.Thread(target=relay.run, daemon=True)
        thread.start()
        try:
            yield Wire(host, ("ip", "netns", "exec", space), relay.up.clear, relay.up.set)
        finally:
            relay.ended.set()
            thread.join(5)


class _Relay:
    """Carries packets between two devices, each way late, at the rate, or not at all."""

    def __init__(self, near: int, far: int, chance: random.Random) -> None:
        self.up = threading.Event()
        self.up.set()
        self.ended = threading.Event()
        self._other = {near: far, far: near}
        self._free_s = {near: 0.0, far: 0.0}
        self._chance = chance
        self._under_way: list[tuple[float, int, int, bytes]] = []
        self._numbers = count()

    def run(self) -> None:
        while not self.ended.is_set():
            now_s = time.monotonic()
            while self._under_way and self._under_way[0][0] <= now_s:
                _, _, end, packet = heapq.heappop(self._under_way)
                with suppress(OSError):
                    os.write(end, packet)
            due_s = self._under_way[0][0] - now_s if self._under_way else 0.1
            for end in select.select(list(self._other), [], [], min(due_s, 0.1))[0]:
                self._take(end, os.read(end, 65536))

    def _take(self, end: int, packet: bytes) -> None:
        now_s = time.monotonic()
        one_s = len(packet) * 8 / BITS_PER_S
        queued = (self._free_s[end] - now_s) / one_s
        if not self.up.is_set() or queued > QUEUE_PACKETS:
            return
        self._free_s[end] = max(self._free_s[end], now_s) + one_s
        if self._chance.random() * 100 >= LOSS_PERCENT:
            due_s = self._free_s[end] + DELAY_S
            heapq.heappush(self._under_way, (due_s, next(self._numbers), self._other[end], packet))


@contextmanager
def _namespace(space: str) -> Iterator[None]:
    _ip("netns", "add", space)
    try:
        yield
    finally:
        _ip("netns", "del", space)


@contextmanager
def _tun(name: str) -> Iterator[int]:
    try:
        end = os.open("/dev/net/tun", os.O_RDWR)
    except OSError as error:
        pytest.skip(f"no TUN devices here: {error}")
    try:
        fcntl.ioctl(end, _SET_INTERFACE, struct.pack("16sH", name.encode(), _TUN | _NO_HEADER))
        yield end
    finally:
        os.close(end)


def _names() -> tuple[str, str, str]:
    stem = f"fw{os.getpid()}"
    return f"{stem}a", f"{stem}b", stem


def _addresses(near: str, far: str, space: str) -> str:
    """Give both ends an address, of those kept for tests of networks; that of the near one."""
    net = f"198.18.{os.getpid() % 256}"
    _ip("link", "set", far, "netns", space)
    _ip("address", "add", f"{net}.1/30", "dev", near)
    _ip("-n", space, "address", "add", f"{net}.2/30", "dev", far)
    _ip("link", "set", near, "up")
    _ip("-n", space, "link", "set", far, "up")
    return f"{net}.1"


def _ip(*words: str) -> None:
    _run("ip", *words)


def _run(*words: str) -> None:
    """Run a command; skips the test where it is not there, or may not do it."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"{words[0]}: {error.strerror}")
    if done.returncode:
        pytest.skip(f"{' '.join(words)}: {done.stderr.strip()}")
