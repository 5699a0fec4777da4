"""What an agent needs to begin, and what it does when an update cannot be offered."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from config.failures import ExitCode, Failure
from config.settings import AgentSettings
from device_agent import service
from device_agent.outbox import COMMIT_BYTES
from device_agent.vocabulary import (
    Abandon,
    Commit,
    Committed,
    Forget,
    Forgotten,
    Train,
    TrainingEnded,
    TrainingFailed,
)
from federation.state_directory import StateDirectory
from tests.specimens import a_header


def settings(folder: Path, **fields: Any) -> AgentSettings:
    chunk = folder / "chunk.npz"
    chunk.touch()
    return AgentSettings(
        **{
            "insecure": True,
            "device": "one",
            "chunk": chunk,
            "state_dir": folder / "state",
            **fields,
        }
    )


def test_without_a_chunk_there_is_nothing_to_do(tmp_path: Path) -> None:
    missing = tmp_path / "missing.npz"
    with pytest.raises(Failure, match=f"there is no chunk {missing}") as caught:
        service.run(settings(tmp_path, chunk=missing))
    assert caught.value.code == ExitCode.NO_INPUT
    assert not (tmp_path / "state").exists()


def test_a_state_directory_in_use_is_told(tmp_path: Path) -> None:
    holder = StateDirectory(tmp_path / "state")
    with pytest.raises(Failure, match="is in use by process") as caught:
        service.run(settings(tmp_path))
    assert caught.value.code == ExitCode.LOCKED
    holder.close()


def test_a_state_directory_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").touch()
    with pytest.raises(Failure, match="cannot use the state directory") as caught:
        service.run(settings(tmp_path))
    assert caught.value.code == ExitCode.CANNOT_WRITE


def test_a_damaged_outbox_is_told_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "outbox"
    folder.mkdir(parents=True)
    (folder / "outbox.sqlite").write_bytes(b"no database at all, but long enough" * 50)
    with pytest.raises(Failure, match=r"outbox\.sqlite") as caught:
        service.run(settings(tmp_path))
    assert caught.value.code == ExitCode.CANNOT_WRITE
    assert "\n" not in str(caught.value)
    StateDirectory(tmp_path / "state").close()  # it is free again


@pytest.fixture
def idle(tmp_path: Path) -> Iterator[Any]:
    """A service that was made and not started."""
    with ExitStack() as closing:
        directory = StateDirectory(tmp_path / "state")
        closing.callback(directory.close)
        yield service._Service(settings(tmp_path), directory, closing)


def commit(idle: Any, metrics: dict[str, float]) -> Any:
    """Commit what was trained; the event that comes of it."""
    payload, _ = idle._outbox.next_paths()
    payload.write_bytes(bytes(8))
    idle._carry_out(Commit(a_header(version=7), TrainingEnded(7, 10, 5, 1.0, metrics)))
    return idle._shell._items.get_nowait()


def test_an_update_is_on_disk_before_the_core_hears_of_it(idle: Any) -> None:
    event = commit(idle, {"loss": 0.5})
    assert isinstance(event, Committed)
    assert idle._outbox.offers() == (event.offer,)


def test_figures_that_no_offer_can_hold_are_a_training_that_failed(idle: Any) -> None:
    event = commit(idle, {"Top 5!": 0.5})
    assert isinstance(event, TrainingFailed)
    assert event.version == 7
    assert "metrics" in event.reason
    assert "\n" not in event.reason
    assert idle._outbox.offers() == ()
    assert isinstance(commit(idle, {"top_5": 0.5}), Committed)


# A full disk


def test_a_training_is_not_begun_where_its_outcome_has_no_room(
    idle: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def full(size: int, folder: Path) -> None:
        asked.append(size)
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("device_agent.outbox.see_room_for", full)
    header = a_header(bytes(4096), version=7)
    with pytest.raises(OSError, match="No space left"):
        idle._carry_out(Train(header))
    assert asked == [4096 + (1024 + 16) + COMMIT_BYTES], "residual, payload, transaction"
    assert idle._shell._items.empty()
    assert not idle._trainer._worker.alive


def test_what_was_saved_of_a_training_goes_with_its_end(idle: Any) -> None:
    idle._store.checkpoint.touch()
    commit(idle, {})
    assert not idle._store.checkpoint.exists()
    idle._store.checkpoint.touch()
    idle._carry_out(Abandon())
    assert not idle._store.checkpoint.exists()


def test_a_judged_update_is_told_to_be_gone(idle: Any) -> None:
    offer = commit(idle, {}).offer
    idle._carry_out(Forget(offer.sequence))
    assert idle._shell._items.get_nowait() == Forgotten(offer.sequence)
    assert idle._outbox.offers() == ()
