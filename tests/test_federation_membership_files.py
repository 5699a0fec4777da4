"""A membership directory is whole or not there, and nobody else may read it."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from federation import membership_files
from federation.files import replace_file
from federation.membership_files import settle, write_membership


def content(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir()}


def test_it_holds_the_files_for_its_owner_alone(tmp_path: Path) -> None:
    directory = tmp_path / "state" / "membership"
    write_membership(directory, {"a": b"1", "b": b"2"})
    assert content(directory) == {"a": b"1", "b": b"2"}
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}
    assert [path.name for path in directory.parent.iterdir()] == ["membership"]


def test_another_takes_its_place_whole(tmp_path: Path) -> None:
    directory = tmp_path / "membership"
    write_membership(directory, {"a": b"1", "password": b"2"})
    write_membership(directory, {"a": b"3"})
    assert content(directory) == {"a": b"3"}
    assert [path.name for path in tmp_path.iterdir()] == ["membership"]


@pytest.mark.parametrize("at", range(12))
def test_a_crash_at_any_moment_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    directory = tmp_path / "membership"
    write_membership(directory, {"a": b"1"})
    left = [at]

    def crash_at(function: object) -> object:
        def instead(*args: object, **named: object) -> object:
            if left[0] == 0:
                raise KeyboardInterrupt
            left[0] -= 1
            return function(*args, **named)  # type: ignore[operator]

        return instead

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", crash_at(Path.replace))
        patch.setattr(membership_files.shutil, "rmtree", crash_at(membership_files.shutil.rmtree))
        with suppress(KeyboardInterrupt):
            write_membership(directory, {"a": b"2", "b": b"3"})
    settle(directory)
    assert content(directory) in ({"a": b"1"}, {"a": b"2", "b": b"3"})
    write_membership(directory, {"a": b"4"})
    assert content(directory) == {"a": b"4"}
    assert [path.name for path in tmp_path.iterdir()] == ["membership"]


def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="cannot write") as caught:
        write_membership(tmp_path / "file" / "membership", {"a": b"1"})
    assert caught.value.code is ExitCode.CANNOT_WRITE


def test_what_lies_in_the_way_is_neither_followed_nor_opened(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"somebody's")
    (tmp_path / "key.part").symlink_to(elsewhere)
    replace_file(tmp_path / "key", b"new", private=True)
    assert elsewhere.read_bytes() == b"somebody's"
    assert not (tmp_path / "key").is_symlink()
    assert (tmp_path / "key").read_bytes() == b"new"


def test_a_private_file_replaces_one_that_others_could_read(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text("old")
    path.chmod(0o644)
    replace_file(path, b"new", private=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)
