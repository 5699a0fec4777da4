"""Files: whatever happens while one is written, the old content is there or the new."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import BinaryIO

import pytest

from federation.files import replace_file, sync_directory, write_file


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


def test_a_file_is_made(tmp_path: Path) -> None:
    replace_file(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert names(tmp_path) == ["state"]


def test_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "state").write_bytes(b"something longer")
    replace_file(tmp_path / "state", memoryview(b"new"))
    assert (tmp_path / "state").read_bytes() == b"new"
    assert names(tmp_path) == ["state"]


def test_a_file_is_written_piece_by_piece(tmp_path: Path) -> None:
    def write(stream: BinaryIO) -> None:
        for piece in (b"one ", b"two ", b"three"):
            stream.write(piece)

    write_file(tmp_path / "state", write)
    assert (tmp_path / "state").read_bytes() == b"one two three"


@pytest.mark.parametrize("error", [OSError("no space"), KeyboardInterrupt()])
def test_what_fails_while_it_is_written_leaves_the_old_content_alone(
    tmp_path: Path, error: BaseException
) -> None:
    (tmp_path / "state").write_bytes(b"old")

    def write(stream: BinaryIO) -> None:
        stream.write(b"half")
        raise error

    with pytest.raises(type(error)):
        write_file(tmp_path / "state", write)
    assert (tmp_path / "state").read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_what_the_disk_does_not_take_leaves_the_old_content_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_bytes(b"old")

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        replace_file(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"old"
    assert names(tmp_path) == ["state"]


def test_a_process_killed_while_writing_leaves_the_old_content_and_does_not_hinder_the_next(
    tmp_path: Path,
) -> None:
    (tmp_path / "state").write_bytes(b"old")
    program = """
import os, signal, sys
from pathlib import Path
from federation.files import write_file

def write(stream):
    stream.write(b"half")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)

write_file(Path(sys.argv[1]), write)
"""
    ended = subprocess.run([sys.executable, "-c", program, tmp_path / "state"], check=False)
    assert ended.returncode == -9
    assert (tmp_path / "state").read_bytes() == b"old"
    replace_file(tmp_path / "state", b"new")
    assert (tmp_path / "state").read_bytes() == b"new"
    assert names(tmp_path) == ["state"]


def test_the_content_is_on_disk_before_the_name_and_the_name_before_the_return(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    replace = Path.replace

    def note_sync(descriptor: int) -> None:
        is_directory = stat.S_ISDIR(os.fstat(descriptor).st_mode)
        done.append("sync directory" if is_directory else "sync file")

    def note_replace(path: Path, target: Path) -> Path:
        done.append(f"rename {path.name} to {target.name}")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_replace)
    replace_file(tmp_path / "state", b"new")
    assert done == ["sync file", "rename state.part to state", "sync directory"]


def test_an_error_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nowhere/state"):
        replace_file(tmp_path / "nowhere" / "state", b"new")
    with pytest.raises(OSError, match="nowhere"):
        sync_directory(tmp_path / "nowhere")


def test_what_lies_in_the_way_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("of another")
    (tmp_path / "file.part").symlink_to(victim)
    replace_file(tmp_path / "file", b"new")
    assert victim.read_text() == "of another"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()
