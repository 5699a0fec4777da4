"""Verdicts go into the ledger together, after the files of what they accept; or none does."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest

from coordinator.verdicts import MOST_AT_ONCE, Verdicts
from coordinator.vocabulary import Judge, Judged, UpdateId
from federation.machine import StorageFull
from federation.messages import Reason
from federation.shell import Shell
from tests.specimens import an_id, an_offer


class Disk:
    """A ledger and a spool that write down what is asked of them, in order."""

    def __init__(self) -> None:
        self.story: list[tuple[str, list[str]]] = []
        self.full = ""

    def sync(self, ids: Iterable[UpdateId]) -> None:
        self._write("files", [id.device for id in ids])

    def judge(self, *verdicts: Judge) -> None:
        self._write("ledger", [verdict.id.device for verdict in verdicts])

    def drop(self, id: UpdateId) -> None:
        self._write("drop", [id.device])

    def _write(self, what: str, devices: list[str]) -> None:
        if self.full == what:
            raise OSError(errno.ENOSPC, "no room")
        self.story.append((what, devices))


class Loop:
    """The loop of a shell, turned by hand."""

    def __init__(self) -> None:
        disk: Any = Disk()
        self.disk = disk
        self.shell = Shell("coordinator")
        self.verdicts = Verdicts(self.shell, self.disk, self.disk)

    def until(self, count: int) -> list[Any]:
        """The next events for the core."""
        events: list[Any] = []
        while len(events) < count:
            item = self.shell._items.get(timeout=60)
            event = item.function() if hasattr(item, "function") else item
            events += [] if event is None else [event]
        return events


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.verdicts.close()


def verdict(device: str, refusal: Reason | None = None) -> Judge:
    return Judge(an_id(device), an_offer(), 1.0, refusal)


def test_a_verdict_is_told_when_the_file_and_then_the_ledger_have_it(loop: Loop) -> None:
    loop.verdicts.enter(verdict("a"))
    assert loop.disk.story == []
    assert loop.until(1) == [Judged(verdict("a"))]
    assert loop.disk.story == [("files", ["a"]), ("ledger", ["a"])]


def test_those_of_one_moment_are_one_transaction(loop: Loop) -> None:
    orders = [verdict("a"), verdict("b", Reason.NORM), verdict("c")]
    for order in orders:
        loop.verdicts.enter(order)
    assert loop.until(3) == [Judged(order) for order in orders]
    assert loop.disk.story == [
        ("files", ["a", "c"]),
        ("ledger", ["a", "b", "c"]),
        ("drop", ["b"]),
    ]


def test_those_that_come_meanwhile_go_in_next_and_together(loop: Loop) -> None:
    loop.verdicts.enter(verdict("a"))
    item: Callable[[], Any] = loop.shell._items.get(timeout=60).function
    item()  # its file is being forced to disk
    for device in ("b", "c"):
        loop.verdicts.enter(verdict(device))
    loop.until(3)
    assert [devices for what, devices in loop.disk.story if what == "ledger"] == [["a"], ["b", "c"]]


def test_a_transaction_does_not_grow_without_end(loop: Loop) -> None:
    for number in range(MOST_AT_ONCE + 1):
        loop.verdicts.enter(verdict(f"device-{number}"))
    loop.until(MOST_AT_ONCE + 1)
    sizes = [len(devices) for what, devices in loop.disk.story if what == "ledger"]
    assert sizes == [MOST_AT_ONCE, 1]


@pytest.mark.parametrize("where", ["files", "ledger"])
def test_on_a_full_disk_none_of_them_is_told_as_judged(loop: Loop, where: str) -> None:
    loop.disk.full = where
    orders = [verdict("a"), verdict("b")]
    for order in orders:
        loop.verdicts.enter(order)
    assert loop.until(2) == [StorageFull(order) for order in orders]
    loop.disk.full = ""
    loop.verdicts.enter(verdict("c"))
    assert loop.until(1) == [Judged(verdict("c"))]


def test_a_refusal_alone_waits_for_no_file(loop: Loop) -> None:
    loop.verdicts.enter(verdict("a", Reason.STALE))
    loop.until(1)
    assert loop.disk.story == [("ledger", ["a"]), ("drop", ["a"])]
