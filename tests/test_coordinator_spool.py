"""Uploads on disk: what a file holds is told by its digests, whatever happened to it."""

from __future__ import annotations

import resource
from pathlib import Path

import pytest

from coordinator.spool import Spool
from federation.transfer import manifest_of
from tests.specimens import a_payload, an_id

PAYLOAD = a_payload(2500)  # three chunks
MANIFEST = manifest_of(PAYLOAD, 1024)
ONE = an_id("one", 3)


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path)


def fill(spool: Spool, *indices: int) -> None:
    for index in indices:
        start, end = MANIFEST.extent(index)
        spool.write(ONE, start, PAYLOAD[start:end])


def test_a_new_upload_holds_nothing_and_has_its_size(spool: Spool) -> None:
    assert spool.open(ONE, MANIFEST) == frozenset()
    assert spool.path(ONE).stat().st_size == 2500


def test_a_broken_upload_goes_on_with_what_it_has(spool: Spool, tmp_path: Path) -> None:
    spool.open(ONE, MANIFEST)
    fill(spool, 2, 0)
    assert Spool(tmp_path).open(ONE, MANIFEST) == {0, 2}


def test_an_upload_is_whole_in_whatever_order_it_came(spool: Spool) -> None:
    spool.open(ONE, MANIFEST)
    fill(spool, 2, 1, 0)
    spool.sync(ONE)
    assert spool.path(ONE).read_bytes() == PAYLOAD


def test_a_damaged_chunk_is_not_there(spool: Spool) -> None:
    spool.open(ONE, MANIFEST)
    fill(spool, 0, 1, 2)
    spool.write(ONE, 1500, b"\0\0")
    assert spool.open(ONE, MANIFEST) == {0, 2}


@pytest.mark.parametrize("size", [0, 1500, 9000])
def test_a_file_of_another_size_is_brought_to_its_own(spool: Spool, size: int) -> None:
    spool.path(ONE).write_bytes((PAYLOAD * 4)[:size])
    held = spool.open(ONE, MANIFEST)
    assert spool.path(ONE).stat().st_size == 2500
    assert held == {index for index in range(3) if MANIFEST.extent(index)[1] <= size}


def test_a_file_of_garbage_holds_nothing(spool: Spool) -> None:
    spool.path(ONE).write_bytes(b"\xff" * 2500)
    assert spool.open(ONE, MANIFEST) == frozenset()


def test_each_update_has_a_file_of_its_own(spool: Spool) -> None:
    ids = [ONE, an_id("one", 4), an_id("two", 3), an_id("one", 3, b"outbox-2")]
    assert len({spool.path(id) for id in ids}) == 4


def test_a_dropped_upload_is_forgotten(spool: Spool) -> None:
    spool.open(ONE, MANIFEST)
    spool.drop(ONE)
    spool.drop(ONE)
    assert not spool.path(ONE).exists()


def test_a_chunk_that_finds_no_room_is_an_error_and_not_half_a_chunk(spool: Spool) -> None:
    spool.open(ONE, MANIFEST)
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A bare write would keep 476 of the 1,024 bytes here, and return as if nothing were amiss.
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, former[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            fill(spool, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)
    assert spool.open(ONE, MANIFEST) == frozenset()
