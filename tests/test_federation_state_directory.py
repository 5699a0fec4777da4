"""State directories: made where needed, one process at a time, and a clear word to the second."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from federation.state_directory import StateDirectory, in_state_directory, when_there_is_room

HOLD = """
import sys, time
from pathlib import Path
from federation.state_directory import StateDirectory

directory = StateDirectory(Path(sys.argv[1]))
print("locked", flush=True)
sys.stdin.read()
"""


def test_a_directory_is_made_with_all_above_it(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path / "a" / "b")
    assert directory.path == tmp_path / "a" / "b"
    assert directory.path.is_dir()
    directory.close()


def test_folders_are_made_where_needed(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    assert directory.folder("spool") == tmp_path / "spool"
    (directory.folder("spool") / "kept").touch()
    assert [path.name for path in directory.folder("spool").iterdir()] == ["kept"]
    directory.close()


def test_a_second_process_is_locked_out_and_hears_who_is_in(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"locked\n"
        with pytest.raises(Failure, match=f"{tmp_path} is in use by process {holder.pid};") as one:
            StateDirectory(tmp_path)
        assert one.value.code is ExitCode.LOCKED
        holder.kill()
    # The lock went with the process, however it ended.
    StateDirectory(tmp_path).close()


def test_one_process_does_not_use_a_directory_twice(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    with pytest.raises(Failure, match=f"in use by process {os.getpid()};"):
        StateDirectory(tmp_path)
    directory.close()
    StateDirectory(tmp_path).close()


def test_whose_the_directory_was_is_written_over_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("99999999999")
    directory = StateDirectory(tmp_path)
    assert (tmp_path / "lock").read_text() == str(os.getpid())
    directory.close()


def test_children_do_not_inherit_the_lock(tmp_path: Path) -> None:
    directory = StateDirectory(tmp_path)
    child = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    )
    directory.close()
    with child:
        StateDirectory(tmp_path).close()
        assert child.poll() is None
        child.kill()


def test_a_file_in_its_place_is_a_clear_failure(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(Failure, match=f"cannot use the state directory {tmp_path}/state: ") as one:
        StateDirectory(tmp_path / "state")
    assert one.value.code is ExitCode.CANNOT_WRITE


def test_on_a_full_disk_the_start_waits_for_room_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = 0

    def full(*_: object) -> int:
        nonlocal attempts
        attempts += 1
        raise OSError(errno.ENOSPC, "No space left on device")

    def make_room_after_three(_: float) -> None:
        if attempts == 3:
            patched.undo()

    caplog.set_level("WARNING", "federation.state_directory")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        patched.setattr(time, "sleep", make_room_after_three)
        with in_state_directory(tmp_path) as (directory, _):
            assert directory.path == tmp_path
    (record,) = caplog.records
    assert record.getMessage() == "storage full: the start waits for room"
    assert record.__dict__["facts"] == {"hint": f"free space in {tmp_path}"}


def test_another_fault_than_a_full_disk_is_not_waited_for(tmp_path: Path) -> None:
    def fail() -> None:
        raise PermissionError(errno.EPERM, "not yours")

    with pytest.raises(PermissionError):
        when_there_is_room(tmp_path, fail)


def test_a_file_that_fails_at_work_is_one_clear_line(tmp_path: Path) -> None:
    with (
        pytest.raises(Failure, match=r"the state in .* failed: .*No space left") as told,
        in_state_directory(tmp_path / "state"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert told.value.code == ExitCode.CANNOT_WRITE


def test_what_was_opened_is_closed_before_the_directory_is_let_go(tmp_path: Path) -> None:
    path = tmp_path / "state"
    with in_state_directory(path) as (_, closing):

        def still_locked() -> None:
            with pytest.raises(Failure, match="in use by process"):
                StateDirectory(path)

        closing.callback(still_locked)
    StateDirectory(path).close()
