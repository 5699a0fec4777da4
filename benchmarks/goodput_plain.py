"""A plain publisher and a plain subscriber, as anybody would write them with paho-mqtt.

Each is a process of its own, started by `plain_pair`; it is told on stdin what to do and says on
stdout when it was done, on the clock that all processes of a machine share.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from os import urandom
from typing import Any

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

TOPIC = "plain/pieces/{qos}"
LONG_S = 60.0


@dataclass(frozen=True, slots=True)
class Lot:
    """What the pair moved in one go; `lost` bytes were dropped on the way."""

    seconds: float
    moved_bytes: int
    lost_bytes: int


class PlainPair:
    """A publisher and a subscriber of one QoS, linked to the broker."""

    def __init__(self, publisher: _Party, subscriber: _Party) -> None:
        self.pids = publisher.pid, subscriber.pid
        self._publisher = publisher
        self._subscriber = subscriber

    def move(self, size: int, chunk_bytes: int) -> Lot:
        """Publish a payload in pieces, and wait for the last of them on the other side."""
        self._subscriber.tell({"size": size})
        self._subscriber.hear()  # it is ready
        self._publisher.tell({"size": size, "chunk_bytes": chunk_bytes})
        began = self._publisher.hear()["began_s"]
        heard = self._subscriber.hear()
        return Lot(heard["ended_s"] - began, heard["bytes"], size - heard["bytes"])


@contextmanager
def plain_pair(host: str, port: int, qos: int) -> Iterator[PlainPair]:
    """The pair, as two processes that end with the context."""
    with ExitStack() as closing:
        parties = [
            closing.enter_context(_party(role, host, port, qos))
            for role in ("publisher", "subscriber")
        ]
        yield PlainPair(*parties)


class _Party:
    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.pid = process.pid
        self._process = process

    def tell(self, words: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


@contextmanager
def _party(role: str, host: str, port: int, qos: int) -> Iterator[_Party]:
    command = [sys.executable, "-m", "benchmarks.goodput_plain", role, host, str(port), str(qos)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        party = _Party(process)
        party.hear()  # it is linked
        yield party
    finally:
        process.kill()
        process.communicate()


def _answer(**words: object) -> None:
    print(json.dumps(words), flush=True)


def _publish(client: mqtt.Client, qos: int) -> None:
    topic, payload = TOPIC.format(qos=qos), b""
    for line in sys.stdin:
        order = json.loads(line)
        if len(payload) != order["size"]:
            payload = urandom(order["size"])
        step = order["chunk_bytes"]
        pieces = [payload[at : at + step] for at in range(0, len(payload), step)]
        began_s = time.monotonic()
        for piece in pieces:
            info = client.publish(topic, piece, qos)
        info.wait_for_publish(LONG_S)
        _answer(began_s=began_s)


class _Subscriber:
    """Counts bytes; what is lost never comes, so it waits no longer than a second for more."""

    def __init__(self) -> None:
        self._count = 0
        self._last_s = 0.0
        self._came = threading.Event()
        self._goal = 0

    def heard(self, _client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        self._last_s = time.monotonic()
        self._count += len(message.payload)
        if self._count >= self._goal:
            self._came.set()

    def serve(self) -> None:
        for line in sys.stdin:
            self._count, self._goal = 0, json.loads(line)["size"]
            self._came.clear()
            _answer(ready=True)
            before = -1
            while not self._came.wait(1.0) and (self._count == 0 or before != self._count):
                before = self._count
            _answer(ended_s=self._last_s, bytes=self._count)


def main(role: str, host: str, port: int, qos: int) -> None:
    """Be one of the two until stdin ends."""
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    linked, subscriber = threading.Event(), _Subscriber()

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        if role == "subscriber":
            client.subscribe(TOPIC.format(qos=qos), qos)
        else:
            linked.set()

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: linked.set()
    client.on_message = subscriber.heard
    client.connect(host, port)
    client.loop_start()
    linked.wait(LONG_S)
    _answer(linked=True)
    if role == "subscriber":
        subscriber.serve()
    else:
        _publish(client, qos)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
