"""Transfer: everything arrives over any link, and no more is under way than the window allows."""

from __future__ import annotations

import random
from math import inf
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from federation.messages import Manifest
from federation.transfer import (
    TARGET_DELAY_S,
    Intake,
    Window,
    chunk_digest,
    manifest_of,
    manifest_of_file,
    window_for,
)

QUICK_S = TARGET_DELAY_S / 10
SLOW_S = TARGET_DELAY_S * 2

patiently = settings(deadline=None)


def content(size: int) -> bytes:
    return random.Random(size).randbytes(size)


def piece(payload: bytes, manifest: Manifest, index: int) -> bytes:
    start, end = manifest.extent(index)
    return payload[start:end]


def intake_of(chunks: int, held: tuple[int, ...] = (), maximum: int = 16) -> tuple[bytes, Intake]:
    payload = content(1024 * chunks)
    return payload, Intake(manifest_of(payload, 1024), held, Window(maximum))


# The manifest


def test_a_payload_is_cut_into_chunks_and_the_last_one_takes_the_rest() -> None:
    payload = content(2500)
    manifest = manifest_of(payload, 1024)
    assert (manifest.size, manifest.chunk_bytes, manifest.count) == (2500, 1024, 3)
    assert [len(piece(payload, manifest, i)) for i in range(3)] == [1024, 1024, 452]
    assert manifest.digest(2) == chunk_digest(payload[2048:])


@given(st.integers(1, 6000), st.integers(1024, 2048))
@patiently
def test_the_chunks_of_a_manifest_are_the_payload(size: int, chunk_bytes: int) -> None:
    payload = content(size)
    manifest = manifest_of(payload, chunk_bytes)
    pieces = [piece(payload, manifest, i) for i in range(manifest.count)]
    assert b"".join(pieces) == payload
    assert all(0 < len(one) <= chunk_bytes for one in pieces)
    assert manifest.digests == b"".join(map(chunk_digest, pieces))


def test_a_manifest_is_the_same_whatever_holds_the_bytes(tmp_path: Path) -> None:
    payload = content(4096)
    assert manifest_of(memoryview(payload).cast("f"), 1024) == manifest_of(payload, 1024)
    file = tmp_path / "payload"
    file.write_bytes(payload)
    for chunk_bytes in (1024, 1500, 5000):
        assert manifest_of_file(file, chunk_bytes) == manifest_of(payload, chunk_bytes)


def test_a_digest_is_sixteen_bytes_of_blake3() -> None:
    # The first of the algorithm's published test vectors: of no bytes at all.
    assert chunk_digest(b"").hex() == "af1349b9f5f9a1a6a0404dea36dcc949"


# The window


@pytest.mark.parametrize(("maximum", "first"), [(1, 1), (2, 2), (16, 2)])
def test_a_window_begins_with_two_chunks_or_what_is_allowed(maximum: int, first: int) -> None:
    assert Window(maximum).size == first


def test_a_window_grows_to_its_maximum_while_chunks_come_quickly() -> None:
    window = Window(8)
    sizes = []
    for _ in range(60):
        window.arrived(QUICK_S)
        sizes.append(window.size)
    assert sizes == sorted(sizes)
    assert sizes[-1] == 8


def test_a_window_grows_by_a_chunk_for_about_a_window_of_quick_ones() -> None:
    window = Window(64)
    window.arrived(TARGET_DELAY_S * 0.7)  # it doubles no more
    quick = 0
    while window.size < 10:
        window.arrived(QUICK_S)
        quick += 1
    # 2 + 3 + ... + 9 = 44 chunks fill the windows from 2 to 9 once each.
    assert 44 <= quick <= 50


def test_a_window_doubles_until_a_chunk_takes_half_of_the_target() -> None:
    window = Window(64)
    sizes = []
    for _ in range(3):
        for _ in range(window.size):
            window.arrived(QUICK_S)
        sizes.append(window.size)
    assert sizes == [4, 8, 16]
    window.arrived(TARGET_DELAY_S * 0.6)
    for _ in range(16):
        window.arrived(QUICK_S)
    assert window.size in (16, 17)


def test_after_a_silence_a_window_does_not_double() -> None:
    window = Window(64)
    window.silent()
    window.arrived(QUICK_S)
    window.arrived(QUICK_S)
    window.arrived(QUICK_S)
    assert window.size == 2


def test_large_chunks_make_a_small_window() -> None:
    sizes = []
    for chunk_bytes in (1024, 512 * 1024, 1024 * 1024):
        manifest = Manifest(size=1, chunk_bytes=chunk_bytes, digests=bytes(16))
        window = window_for(manifest, 16)
        for _ in range(100):
            window.arrived(QUICK_S)
        sizes.append(window.size)
    assert sizes == [16, 4, 2]


def test_a_window_shrinks_when_chunks_are_slow_and_one_is_always_allowed() -> None:
    window = Window(16)
    for _ in range(200):
        window.arrived(QUICK_S)
    sizes = [window.size]
    for _ in range(20):
        window.arrived(SLOW_S)
        sizes.append(window.size)
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[1], sizes[-1]) == (16, 11, 1)


def test_a_window_stays_as_it_is_when_chunks_are_neither_quick_nor_slow() -> None:
    window = Window(16)
    for _ in range(100):
        window.arrived(TARGET_DELAY_S * 0.7)
    assert window.size == 2


def test_after_a_silence_a_window_begins_with_one_chunk() -> None:
    window = Window(16)
    for _ in range(200):
        window.arrived(QUICK_S)
    window.silent()
    assert window.size == 1


@given(st.integers(1, 64), st.lists(st.floats(-1, 10) | st.none(), max_size=80))
@patiently
def test_a_window_is_never_empty_nor_larger_than_its_maximum(
    maximum: int, delays: list[float | None]
) -> None:
    window = Window(maximum)
    for delay_s in delays:
        if delay_s is None:
            window.silent()
        else:
            window.arrived(delay_s)
        assert 1 <= window.size <= maximum


# The intake


def test_an_intake_asks_for_the_first_missing_chunks_once() -> None:
    _, intake = intake_of(5)
    assert intake.ask(0.0) == (0, 1)
    assert intake.ask(0.0) == ()
    assert intake.under_way == (0, 1)


def test_what_is_held_is_not_asked_for() -> None:
    _, intake = intake_of(5, held=(0, 2, 3))
    assert intake.fraction == pytest.approx(0.6)
    assert intake.ask(0.0) == (1, 4)


def test_foreign_indices_are_held_in_vain() -> None:
    _, intake = intake_of(2, held=(-1, 2, 99))
    assert intake.ask(0.0) == (0, 1)


def test_when_everything_is_held_nothing_is_asked_for() -> None:
    _, intake = intake_of(3, held=(0, 1, 2))
    assert intake.complete
    assert intake.fraction == 1.0
    assert intake.ask(0.0) == ()


def test_a_large_window_is_filled_again_once_half_of_it_is_free() -> None:
    _, intake = intake_of(40, maximum=8)
    for _ in range(100):
        intake.window.arrived(QUICK_S)
    assert intake.ask(0.0) == tuple(range(8))
    for index in range(3):
        intake.arrived(index, QUICK_S)
        assert intake.ask(QUICK_S) == ()
    intake.arrived(3, QUICK_S)
    assert intake.ask(QUICK_S) == (8, 9, 10, 11)


def test_a_window_that_shrank_is_waited_for() -> None:
    _, intake = intake_of(40, maximum=8)
    for _ in range(100):
        intake.window.arrived(QUICK_S)
    intake.ask(0.0)
    intake.arrived(0, 2 * SLOW_S)
    intake.arrived(1, 2 * SLOW_S)
    assert intake.window.size == 3
    assert intake.ask(2 * SLOW_S) == ()


def test_only_a_chunk_that_is_missing_whole_and_unaltered_is_accepted() -> None:
    payload, intake = intake_of(3)
    good = payload[1024:2048]
    assert intake.accepts(1, good)
    assert not intake.accepts(0, good)
    assert not intake.accepts(1, good[:-1])
    assert not intake.accepts(1, good + b"\x00")
    assert not intake.accepts(1, bytes([good[0] ^ 1]) + good[1:])
    assert not intake.accepts(1, b"")
    assert not intake.accepts(3, good)
    assert not intake.accepts(-1, payload[2048:])
    assert not intake.accepts(2**32 - 1, good)
    intake.arrived(1, 0.0)
    assert not intake.accepts(1, good)


def test_a_chunk_nobody_asked_for_is_welcome_and_teaches_the_window_nothing() -> None:
    payload, intake = intake_of(3)
    assert intake.accepts(2, payload[2048:])
    intake.arrived(2, 100.0)
    assert intake.window.size == 2
    assert intake.fraction == pytest.approx(1 / 3)


def test_chunks_that_do_not_come_are_overdue_until_they_are_asked_for_again() -> None:
    _, intake = intake_of(4)
    intake.ask(10.0)
    assert intake.overdue(11.9, patience_s=2.0) == ()
    assert intake.overdue(12.0, patience_s=2.0) == (0, 1)
    intake.postpone((0, 1, 3), 12.0)
    assert intake.overdue(13.9, patience_s=2.0) == ()
    assert intake.under_way == (0, 1)
    assert intake.overdue(14.0, patience_s=2.0) == (0, 1)


def test_a_chunk_that_was_asked_for_twice_teaches_the_window_nothing() -> None:
    _, intake = intake_of(40, maximum=8)
    for _ in range(40):
        for index in intake.ask(0.0):
            intake.postpone((index,), 100.0)
            intake.arrived(index, 100.0 + QUICK_S)
    assert intake.complete
    assert intake.window.size == 2


def test_the_delay_is_that_of_chunks_that_were_asked_for_once() -> None:
    _, intake = intake_of(8, maximum=4)
    assert intake.delay_s == 0
    intake.ask(0.0)
    intake.arrived(0, 4.0)
    assert intake.delay_s == 4.0
    intake.postpone((1,), 50.0)
    intake.arrived(1, 90.0)
    assert intake.delay_s == 4.0
    intake.ask(100.0)
    intake.arrived(2, 108.0)
    assert intake.delay_s == 5.0, "it follows by a quarter"


def test_while_no_delay_is_known_a_repeated_asking_tells_the_longest_it_can_be() -> None:
    _, intake = intake_of(2)
    intake.ask(0.0)
    intake.postpone((0,), 2.0)
    intake.arrived(0, 12.0)
    assert intake.delay_s == 12.0
    intake.arrived(1, 24.0)
    assert intake.delay_s == 24.0, "one that was asked for once is believed instead"


def test_what_comes_right_after_it_was_asked_for_again_tells_no_delay() -> None:
    _, intake = intake_of(2)
    intake.ask(0.0)
    intake.postpone((0,), 2.0)
    intake.arrived(0, 2.0 + QUICK_S)
    assert intake.delay_s == 0


def test_what_was_answered_in_vain_counts_from_the_asking_elsewhere() -> None:
    _, intake = intake_of(2)
    intake.ask(0.0)
    intake.ask_elsewhere(0, 3.0)
    intake.arrived(0, 3.5)
    assert intake.delay_s == 0.5


def test_only_what_was_asked_for_long_ago_is_forgotten() -> None:
    _, intake = intake_of(4)
    intake.ask(0.0)
    intake.postpone((1,), 5.0)
    intake.forget_asked(6.0, older_s=3.0)
    assert intake.under_way == (1,)
    assert intake.window.size == 1


def test_the_longest_awaited_chunk_is_the_one_asked_for_first() -> None:
    _, intake = intake_of(4)
    assert intake.oldest_ask_s == inf
    intake.ask(5.0)
    intake.postpone((0,), 7.0)
    assert intake.oldest_ask_s == 5.0
    intake.arrived(1, 8.0)
    assert intake.oldest_ask_s == 7.0


def test_after_the_link_broke_what_is_missing_is_asked_for_anew_one_by_one() -> None:
    _, intake = intake_of(4)
    intake.ask(0.0)
    intake.arrived(0, QUICK_S)
    intake.forget_asked()
    assert intake.under_way == ()
    assert intake.ask(50.0) == (1,)


class Link:
    """A link that loses, doubles and delays by a seed, so that nothing keeps its order."""

    def __init__(self, seed: int, loss: float, duplication: float, delay_s: float) -> None:
        self.random = random.Random(seed)
        self.loss, self.duplication, self.delay_s = loss, duplication, delay_s
        self.under_way: list[tuple[float, int, bytes]] = []

    def send(self, index: int, data: bytes, now_s: float) -> None:
        for _ in range(2 if self.random.random() < self.duplication else 1):
            if self.random.random() >= self.loss:
                due_s = now_s + self.random.uniform(0, self.delay_s)
                self.under_way.append((due_s, index, data))

    def next(self) -> tuple[float, int, bytes]:
        first = min(self.under_way)
        self.under_way.remove(first)
        return first


@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    duplication=st.floats(0, 1),
    delay_s=st.floats(0, 3),
    chunks=st.integers(1, 40),
    maximum=st.integers(1, 16),
    held=st.frozensets(st.integers(0, 45), max_size=20),
)
@settings(deadline=None, max_examples=200)
def test_everything_arrives_over_any_link_and_never_beyond_the_window(
    seed: int,
    loss: float,
    duplication: float,
    delay_s: float,
    chunks: int,
    maximum: int,
    held: frozenset[int],
) -> None:
    payload = content(1024 * chunks - 100)
    manifest = manifest_of(payload, 1024)
    stored = {i: piece(payload, manifest, i) for i in held if i < manifest.count}
    intake = Intake(manifest, held, Window(maximum))
    link = Link(seed, loss, duplication, delay_s)
    now_s = 0.0
    while not intake.complete:
        asked = intake.ask(now_s)
        assert not asked or len(intake.under_way) <= intake.window.size <= maximum
        assert not set(asked) & set(stored)
        for index in asked:
            link.send(index, piece(payload, manifest, index), now_s)
        if link.under_way and min(link.under_way)[0] < now_s + 2.0:
            due_s, index, data = link.next()
            now_s = max(now_s, due_s)
            if intake.accepts(index, data):
                assert index not in stored
                stored[index] = data
                intake.arrived(index, now_s)
        else:
            now_s += 2.0
            if intake.overdue(now_s, patience_s=2.0):
                intake.forget_asked()
        assert intake.under_way or not intake.complete or len(stored) == manifest.count
        assert now_s < 100_000, "no end"
    assert b"".join(stored[i] for i in range(manifest.count)) == payload
    assert intake.under_way == ()
    assert intake.ask(now_s) == ()


@given(st.integers(0, 2**32))
@settings(deadline=None, max_examples=30)
def test_altered_chunks_never_get_in(seed: int) -> None:
    chance = random.Random(seed)
    payload, intake = intake_of(4)
    stored: dict[int, bytes] = {}
    while not intake.complete:
        index = chance.randrange(6)
        data = bytearray(payload[1024 * index : 1024 * (index + 1)])
        if data and chance.random() < 0.5:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        if intake.accepts(index, bytes(data)):
            stored[index] = bytes(data)
            intake.arrived(index, 0.0)
    assert b"".join(stored[i] for i in range(4)) == payload
