"""A version goes out: chunks before the header, as fast as the link takes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.broadcast import Broadcast
from coordinator.versions import Versions
from coordinator.vocabulary import Announce, ServeChunk
from federation.machine import Publish
from federation.session import HIGH_WATER_BYTES
from tests.specimens import TOPICS, a_layout

LAYOUT = a_layout(600)  # three chunks of 1024 bytes


class Link:
    """Takes what is published, while there is room and a connection."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.backlog_bytes = 0
        self.room = 1000
        self.up = True

    def publish(self, message: Publish) -> bool:
        if not self.up:
            return False
        self.topics.append(message.topic.removeprefix(f"{TOPICS.root}"))
        self.room -= 1
        self.backlog_bytes = 0 if self.room > 0 else HIGH_WATER_BYTES
        return True


@pytest.fixture
def link() -> Link:
    return Link()


@pytest.fixture
def order(tmp_path: Path) -> tuple[Versions, Announce]:
    versions = Versions(tmp_path, 1024)
    info = versions.save(4, np.zeros(600, np.float32), {}, LAYOUT)
    return versions, Announce(info, 0, b"header")


def test_the_header_goes_out_after_the_chunks(link: Any, order: tuple[Versions, Announce]) -> None:
    Broadcast(link, order[0], TOPICS).announce(order[1])
    assert link.topics == ["model/0/0", "model/0/1", "model/0/2", "model"]


def test_what_the_link_has_no_room_for_goes_out_later(
    link: Any, order: tuple[Versions, Announce]
) -> None:
    broadcast = Broadcast(link, order[0], TOPICS)
    link.room = 2
    broadcast.announce(order[1])
    assert link.topics == ["model/0/0", "model/0/1"]
    assert not broadcast.go_on()
    link.room, link.backlog_bytes = 1000, 0
    assert broadcast.go_on()
    assert link.topics[2:] == ["model/0/2", "model"]


def test_once_more_after_a_broken_link_the_header_comes_first(
    link: Any, order: tuple[Versions, Announce]
) -> None:
    broadcast = Broadcast(link, order[0], TOPICS)
    link.up = False
    broadcast.announce(order[1])
    assert broadcast.go_on(), "there is nothing to wait for"
    link.up = True
    broadcast.announce(order[1])
    assert link.topics == ["model", "model/0/0", "model/0/1", "model/0/2"]


def test_a_chunk_is_served_while_there_is_room(link: Any, order: tuple[Versions, Announce]) -> None:
    broadcast = Broadcast(link, order[0], TOPICS)
    broadcast.serve(ServeChunk(TOPICS.down("one"), 4, 1))
    broadcast.serve(ServeChunk(TOPICS.down("one"), 3, 1))
    link.backlog_bytes = HIGH_WATER_BYTES
    broadcast.serve(ServeChunk(TOPICS.down("one"), 4, 2))
    assert link.topics == ["device/one/down"]
