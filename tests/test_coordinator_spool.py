"""Uploads on disk: what a file holds is told by its digests, whatever happened to it."""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import pytest

from coordinator.spool import Spool
from coordinator.vocabulary import UpdateId
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
    spool.sync([ONE])
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


# Sweeping

DAY_S = 86_400.0


def unfinished(spool: Spool, device: str, age_s: float, kib: int = 64) -> UpdateId:
    """An upload of which so much has come, the last of it so long ago."""
    id = an_id(device)
    spool.open(id, MANIFEST)
    spool.path(id).write_bytes(b"\1" * 1024 * kib)
    os.utime(spool.path(id), times=(time.time() - age_s,) * 2)
    return id


def swept(spool: Spool, *busy: UpdateId, accepted: str = "", quota_kib: int = 2**20) -> list[str]:
    """The devices whose uploads a sweep deletes, of uploads that are kept for a day."""
    folder = spool.path(ONE).parent
    before = set(folder.iterdir())
    count = spool.sweep(busy, lambda id: id.device == accepted, quota_kib * 1024, DAY_S)
    gone = before - set(folder.iterdir())
    assert len(gone) == count
    return sorted(path.name.partition(".")[0] for path in gone)


def test_an_unfinished_upload_that_is_too_old_is_deleted(spool: Spool) -> None:
    unfinished(spool, "old", 2 * DAY_S)
    unfinished(spool, "young", DAY_S / 2)
    assert swept(spool) == ["old"]


def test_over_the_quota_the_oldest_unfinished_uploads_are_deleted(spool: Spool) -> None:
    for age_s, device in enumerate(("newest", "second", "third", "oldest")):
        unfinished(spool, device, age_s)
    assert swept(spool, quota_kib=64 * 2) == ["oldest", "third"]
    assert swept(spool, quota_kib=64 * 2) == []


def test_what_is_under_way_is_not_deleted_but_counts(spool: Spool) -> None:
    busy = unfinished(spool, "busy", 2 * DAY_S)
    unfinished(spool, "idle", 0)
    assert swept(spool, busy, quota_kib=64) == ["idle"]


def test_an_accepted_update_is_never_deleted_and_does_not_count(spool: Spool) -> None:
    unfinished(spool, "accepted", 2 * DAY_S)
    unfinished(spool, "idle", 0)
    assert swept(spool, accepted="accepted", quota_kib=64) == []


def test_what_is_no_upload_is_left_alone(spool: Spool, tmp_path: Path) -> None:
    for name in ("fresh.float32", "one.00.1", "One.0123456789abcdef.1", "one.0123456789abcdef.x"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, times=(0, 0))
    assert swept(spool) == []
