"""Room that is asked for before it is needed."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from device_agent.room import allot, see_room_for
from federation.files import is_storage_full
from tests.small_disk import a_small_disk


def test_a_file_keeps_what_it_holds_and_gets_its_room(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"held")
    allot(path, 100_000)
    assert path.read_bytes() == b"held" + bytes(99_996)
    assert path.stat().st_blocks * 512 >= 100_000


def test_room_that_is_there_leaves_no_trace(tmp_path: Path) -> None:
    see_room_for(100_000, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_and_left_as_it_was(tmp_path: Path) -> None:
    with a_small_disk(tmp_path / "disk", 64) as disk:
        with pytest.raises(OSError, match="No space left") as told:
            see_room_for(100_000, disk.path)
        assert is_storage_full(told.value)
        assert list(disk.path.iterdir()) == []


def test_a_file_system_that_cannot_tell_is_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "not supported")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    see_room_for(100_000, tmp_path)
    monkeypatch.delattr(os, "posix_fallocate")
    see_room_for(100_000, tmp_path)
