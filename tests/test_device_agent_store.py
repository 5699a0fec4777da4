"""The fetched version on disk: one at a time, told by its digests."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_agent.store import Store
from federation.messages import Header, encode
from tests.small_disk import a_small_disk
from tests.specimens import a_header, a_payload

PAYLOAD = a_payload(2500)  # three chunks
HEADER = a_header(PAYLOAD, version=3)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path)


def fill(store: Store, header: Header, *indices: int) -> None:
    for index in indices:
        start, end = header.payload.extent(index)
        store.write(header, index, PAYLOAD[start:end])


def test_a_version_is_whole_in_whatever_order_it_came(store: Store) -> None:
    assert store.prepare(HEADER) == frozenset()
    fill(store, HEADER, 2, 0, 1)
    assert store.path(HEADER).read_bytes() == PAYLOAD


def test_chunks_on_disk_are_not_fetched_again(store: Store, tmp_path: Path) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 2, 0)
    assert Store(tmp_path).prepare(HEADER) == {0, 2}


def test_damaged_chunks_are_not_there(store: Store) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    with store.path(HEADER).open("r+b") as file:
        file.seek(1100)
        file.write(b"\0\0")
    assert store.prepare(HEADER) == {0, 2}


@pytest.mark.parametrize("size", [0, 1500, 9000])
def test_a_file_of_another_size_is_brought_to_its_own(store: Store, size: int) -> None:
    store.path(HEADER).write_bytes(bytes(size))
    store.prepare(HEADER)
    assert store.path(HEADER).stat().st_size == 2500


def test_a_new_version_takes_the_place_of_the_last(store: Store, tmp_path: Path) -> None:
    store.prepare(HEADER)
    newer = a_header(PAYLOAD, version=4)
    store.prepare(newer)
    assert sorted(tmp_path.iterdir()) == sorted([store.path(newer), tmp_path / "header"])


def test_the_same_number_in_another_ledger_is_another_version(store: Store) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    assert store.prepare(a_header(a_payload(2500, 1), version=3, ledger=b"ledger-2")) == frozenset()


@pytest.mark.parametrize("codec", ["../../escaped", "/etc/passwd", "x" * 300, "nul\0byte"])
def test_no_word_of_a_header_reaches_the_file_system(
    store: Store, tmp_path: Path, codec: str
) -> None:
    header = a_header(PAYLOAD, codec=codec)
    store.prepare(header)
    assert sorted(tmp_path.iterdir()) == sorted([store.path(header), tmp_path / "header"])
    assert store.path(header).stat().st_size == 2500


def test_a_whole_version_is_remembered(store: Store, tmp_path: Path) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    remembered = Store(tmp_path).remembered()
    assert remembered is not None
    assert encode(remembered) == encode(HEADER)


def test_a_version_that_lacks_a_chunk_is_not_remembered(store: Store, tmp_path: Path) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1)
    assert Store(tmp_path).remembered() is None


def test_a_training_that_was_saved_is_begun_until_it_is_forgotten(store: Store) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    assert store.begun(store.remembered()) is None
    store.checkpoint.write_bytes(b"saved")
    begun = store.begun(store.remembered())
    assert begun is not None
    assert encode(begun) == encode(HEADER)
    store.forget_training()
    assert store.begun(store.remembered()) is None


def test_an_empty_store_remembers_nothing(store: Store) -> None:
    assert store.remembered() is None


@pytest.mark.parametrize("junk", [b"", b"junk", b"\xc1\x01" + b"x" * 40])
def test_a_damaged_header_is_not_remembered(store: Store, tmp_path: Path, junk: bytes) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    (tmp_path / "header").write_bytes(junk)
    assert store.remembered() is None


# A full disk


def test_a_version_gets_all_its_room_before_the_first_chunk(store: Store) -> None:
    store.prepare(HEADER)
    assert store.path(HEADER).stat().st_blocks * 512 >= 2500


def test_a_version_that_has_no_room_leaves_none_taken(tmp_path: Path) -> None:
    large = a_header(a_payload(200_000), version=4)
    with a_small_disk(tmp_path / "disk", 100) as disk:
        store = Store(disk.path)
        with pytest.raises(OSError, match="No space left"):
            store.prepare(large)
        assert list(disk.path.iterdir()) == []
        disk.free()
        assert store.prepare(HEADER) == frozenset()


def test_chunks_outlive_a_disk_that_fills_up(tmp_path: Path) -> None:
    payload = a_payload(200_000)
    header = a_header(payload, version=4)
    with a_small_disk(tmp_path / "disk", 400) as disk:
        store = Store(disk.path)
        store.prepare(header)
        store.write(header, 7, payload[7 * 1024 : 8 * 1024])
        disk.fill()
        assert Store(disk.path).prepare(header) == {7}, "what has its room needs no more"


def test_a_saved_training_is_about_a_version_that_is_whole(store: Store) -> None:
    store.prepare(HEADER)
    fill(store, HEADER, 0, 1, 2)
    store.checkpoint.touch()
    store.prepare(HEADER)
    assert store.checkpoint.exists()
    store.prepare(a_header(PAYLOAD, version=4))
    assert not store.checkpoint.exists()
