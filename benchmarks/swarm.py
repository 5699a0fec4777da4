"""Many devices in one process: `python -m benchmarks.swarm --port 1883 --devices 1000`.

One selector loop of its own carries all connections, each with the real core of an agent
(`swarm_device`). Words on stdin direct it: `begin` counts anew, `tell` prints what was counted, as
one line of JSON, and `end` (or the end of stdin) ends it. The first line that it prints tells that
all devices are connected.
"""

from __future__ import annotations

import argparse
import heapq
import json
import os
import resource
import selectors
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count
from math import inf
from typing import IO, Any

import numpy as np

from benchmarks.swarm_device import SwarmDevice, Work
from benchmarks.swarm_link import SwarmInbox, SwarmLink
from benchmarks.swarm_record import Record
from config.failures import ExitCode, Failure
from config.settings import Transfer
from federation.compression import encode
from federation.session import Identity
from federation.topics import Topics

TASK = "cifar10"
SPARE_FILES = 64
LOOK_S = 1.0
KEEP_ALIVE_S = 60.0
# Connections that are being made at a time, as a broker's backlog takes them.
AT_ONCE = 64


class Swarm:
    """The loop around all devices."""

    def __init__(self, host: str, port: int) -> None:
        self.record = Record()
        self.devices: list[SwarmDevice] = []
        self._host, self._port = host, port
        self._selector = selectors.DefaultSelector()
        self._due: list[tuple[float, int, SwarmDevice]] = []
        self._due_of: dict[SwarmDevice, float] = {}
        self._numbers = count()
        self._to_flush: dict[SwarmLink, None] = {}
        self._stuck: set[SwarmLink] = set()
        self._device_of: dict[SwarmLink, SwarmDevice] = {}
        self._keep_alive_s = time.monotonic() + KEEP_ALIVE_S

    def add(self, name: str, work: Work, transfer: Transfer, topics: Topics) -> None:
        """Connect one more device; it is there when the loop has gone on for a while.

        Raises:
            Failure: the broker cannot be reached.
        """

        def link(identity: Identity, inbox: SwarmInbox) -> SwarmLink:
            made = SwarmLink(identity, inbox, lambda: self._to_flush.setdefault(made))
            return made

        device = SwarmDevice(name, topics, transfer, TASK, work, self.record, time.monotonic, link)
        try:
            connection = device.link.connect(self._host, self._port)
        except OSError as error:
            raise Failure(
                ExitCode.UNAVAILABLE,
                f"device {len(self.devices) + 1} finds no broker at {self._host}:{self._port}"
                f" ({error.strerror or error})",
            ) from None
        self.devices.append(device)
        self._device_of[device.link] = device
        self._to_flush[device.link] = None
        self._selector.register(connection, selectors.EVENT_READ, device)

    def hear(self, stream: IO[str], take: Callable[[str], None]) -> None:
        """Have the loop read lines of a stream, too; the end of it is an empty line."""
        self._selector.register(stream, selectors.EVENT_READ, take)

    def turn(self, longest_s: float = LOOK_S) -> None:
        """Wait for something to happen, and let the devices whose time has come go on."""
        wait_s = min(longest_s, self._next_s() - time.monotonic())
        for key, events in self._selector.select(max(0.0, wait_s) if not self._to_flush else 0.0):
            if not isinstance(key.data, SwarmDevice):
                key.data(key.fileobj.readline())  # type: ignore[union-attr]
                continue
            if events & selectors.EVENT_READ:
                key.data.link.ready()
                self._note(key.data)
            if events & selectors.EVENT_WRITE:
                self._to_flush[key.data.link] = None
        now_s = time.monotonic()
        while self._due and self._due[0][0] <= now_s:
            due_s, _, device = heapq.heappop(self._due)
            if self._due_of.get(device) == due_s:
                del self._due_of[device]
                device.tick()
                self._note(device)
        self._flush()
        if now_s >= self._keep_alive_s:
            self._keep_alive_s = now_s + KEEP_ALIVE_S
            for device in self.devices:
                device.link.keep_alive()
                self._to_flush[device.link] = None

    def close(self) -> None:
        """Take all devices away, in an orderly way."""
        for device in self.devices:
            device.link.disconnect()
        self._flush()
        self._selector.close()

    def _next_s(self) -> float:
        return self._due[0][0] if self._due else inf

    def _note(self, device: SwarmDevice) -> None:
        """Remember when a device wants to be asked; what was remembered before is passed over."""
        due_s = device.due_s
        if due_s < inf and self._due_of.get(device) != due_s:
            self._due_of[device] = due_s
            heapq.heappush(self._due, (due_s, next(self._numbers), device))

    def _flush(self) -> None:
        """Write what was published in this turn; what does not fit is watched."""
        links, self._to_flush = self._to_flush, {}
        for link in links:
            is_stuck = not link.flush()
            if is_stuck != (link in self._stuck):
                self._watch(link, is_stuck)

    def _watch(self, link: SwarmLink, is_stuck: bool) -> None:
        device, connection = self._device_of[link], link.endpoint
        if connection is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if is_stuck else 0)
        self._selector.modify(connection, events, device)
        (self._stuck.add if is_stuck else self._stuck.discard)(link)


def device_names(devices: int) -> list[str]:
    """Names of so many devices."""
    return [f"device-{number:05}" for number in range(devices)]


def raise_file_limit(needed: int) -> None:
    """Let this process, and those that it starts, open so many files.

    Raises:
        Failure: the machine does not allow it.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    try:
        more = needed if hard == resource.RLIM_INFINITY else max(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, more))
    except (ValueError, OSError):
        raise Failure(
            ExitCode.FAILURE,
            f"{needed} open files are needed, and this machine allows {hard}; raise the limit"
            f" (ulimit -n {needed}) or take fewer devices",
        ) from None


def an_update(elements: int, codec: str) -> bytes:
    """An encoded update of so many elements that no training made."""
    delta = np.random.default_rng(0).normal(0, 0.01, elements).astype(np.float32)
    return encode(codec, delta)


def connect_all(
    swarm: Swarm, devices: int, work: Work, transfer: Transfer, topics: Topics
) -> float:
    """Connect so many devices, some at a time; the seconds until the last was there.

    Raises:
        Failure: the broker cannot be reached, or does not let them in.
    """
    began_s = time.monotonic()
    for number, name in enumerate(device_names(devices)):
        swarm.add(name, work, transfer, topics)
        while number - len(swarm.record.online) >= AT_ONCE:
            _turn_or_fail(swarm)
    while len(swarm.record.online) < devices:
        _turn_or_fail(swarm)
    return time.monotonic() - began_s


def _turn_or_fail(swarm: Swarm) -> None:
    swarm.turn()
    if swarm.record.troubles:
        reason = next(iter(swarm.record.troubles))
        raise Failure(ExitCode.UNAVAILABLE, f"a device was not let in: {reason}")


def run(options: argparse.Namespace, words: IO[str] = sys.stdin) -> None:
    """Connect, and go on until told to end."""
    raise_file_limit(options.devices + SPARE_FILES)
    transfer = Transfer(chunk_bytes=options.chunk_bytes)
    payload = an_update(options.elements, options.codec)
    work = Work.of(payload, transfer, options.think_s, fetches=options.fetch)
    swarm = Swarm(options.host, options.port)
    topics = Topics("flockwise", "default")
    took_s = connect_all(swarm, options.devices, work, transfer, topics)
    _say({"connected": options.devices, "seconds": round(took_s, 3)})
    ending: list[str] = []

    def take(line: str) -> None:
        match line.strip():
            case "begin":
                swarm.record.begin()
            case "tell":
                _say(swarm.record.facts())
            case "end" | "":
                ending.append(line)

    swarm.hear(words, take)
    while not ending:
        swarm.turn()
    swarm.close()


def _say(facts: dict[str, Any]) -> None:
    print(json.dumps(facts), flush=True)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m benchmarks.swarm", description=__doc__)
    made.add_argument("--host", default="127.0.0.1", help="the broker's address")
    made.add_argument("--port", type=int, required=True, help="the broker's port")
    made.add_argument("--devices", type=int, required=True, help="how many")
    made.add_argument("--elements", type=int, default=62_500, help="of the model")
    made.add_argument("--codec", default="float32", help="of updates, as the coordinator has it")
    made.add_argument("--think-s", type=float, default=0.0, help="mean time of a training")
    made.add_argument("--chunk-bytes", type=int, default=Transfer().chunk_bytes)
    made.add_argument(
        "--no-fetch",
        dest="fetch",
        action="store_false",
        help="devices do as if they held each version already",
    )
    return made


def main(argv: Sequence[str] | None = None) -> int:
    """Run a swarm until told to end."""
    try:
        run(parser().parse_args(argv))
    except Failure as failure:
        print(failure.message, file=sys.stderr)
        return failure.code
    sys.stdout.flush()
    os._exit(0)  # a thousand clients are not worth taking apart


if __name__ == "__main__":
    sys.exit(main())
