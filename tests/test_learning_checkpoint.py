"""A training that is interrupted goes on as if it had not been: the same bytes come of it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from config.settings import TrainingPlan
from learning.checkpoint import Checkpoint
from learning.models import build_model
from learning.outcomes import Training
from learning.training import train
from learning.vectors import vector_of


class PowerCutError(Exception):
    """The machine went off."""


def images(n: int = 40) -> torch.Tensor:
    chance = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (n, 32, 32, 3), dtype=torch.uint8, generator=chance)


def trained(plan: TrainingPlan, checkpoint: Checkpoint, cut_at: float = 2.0) -> Any:
    """Train until the end, or until the power is cut; model and figures."""
    model = build_model("tutorial-cnn")

    def on_step(done: float, loss: float) -> None:
        if done > cut_at:
            raise PowerCutError

    labels = torch.arange(40) % 10
    done = train(model, images(), labels, plan, seed=3, on_step=on_step, checkpoint=checkpoint)
    return vector_of(model), done


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("augment", [False, True])
@pytest.mark.parametrize("cut_at", [0.2, 0.5, 0.9])
def test_what_comes_of_a_training_does_not_tell_that_it_was_interrupted(
    tmp_path: Path, momentum: float, augment: bool, cut_at: float
) -> None:
    plan = TrainingPlan(epochs=3, batch_size=8, momentum=momentum, augment=augment)
    model, figures = trained(plan, Checkpoint(None))
    path = tmp_path / "training"
    with pytest.raises(PowerCutError):
        trained(plan, Checkpoint(path, every_s=0), cut_at)
    again = Checkpoint(path, every_s=0)
    assert again.resume() is not None
    resumed, resumed_figures = trained(plan, again)
    assert resumed.tobytes() == model.tobytes()
    assert resumed_figures == figures
    assert isinstance(figures, Training)


def test_the_proximal_pull_is_towards_the_received_model_after_a_restart_too(
    tmp_path: Path,
) -> None:
    plan = TrainingPlan(epochs=2, batch_size=8, proximal_mu=1.0)
    model, _ = trained(plan, Checkpoint(None))
    path = tmp_path / "training"
    with pytest.raises(PowerCutError):
        trained(plan, Checkpoint(path, every_s=0), 0.5)
    resumed, _ = trained(plan, Checkpoint(path, every_s=0))
    assert resumed.tobytes() == model.tobytes()


def test_it_is_saved_no_more_often_than_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "training"
    trained(TrainingPlan(epochs=2, batch_size=8), Checkpoint(path, every_s=3600))
    assert not path.exists()


def test_the_seconds_of_earlier_starts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "training"
    checkpoint = Checkpoint(path, every_s=0)
    checkpoint.offer(lambda: {"n": np.asarray(1)})
    assert Checkpoint(path).spent_s > 0
    assert Checkpoint(None).spent_s == 0


def test_another_training_does_not_take_it_up(tmp_path: Path) -> None:
    path = tmp_path / "training"
    Checkpoint(path, 0, lambda: "one").offer(lambda: {"n": np.asarray(1)})
    assert Checkpoint(path, 0, lambda: "one").resume() is not None
    assert Checkpoint(path, 0, lambda: "two").resume() is None


def test_what_it_is_about_is_not_asked_while_there_is_no_file(tmp_path: Path) -> None:
    asked: list[str] = []

    def about() -> str:
        asked.append("once")
        return "one"

    checkpoint = Checkpoint(tmp_path / "training", 3600, about)
    checkpoint.offer(lambda: {"n": np.asarray(1)})
    assert not asked
    saving = Checkpoint(tmp_path / "training", 0, about)
    for _ in range(2):
        saving.offer(lambda: {"n": np.asarray(1)})
    assert len(asked) == 1


@pytest.mark.parametrize("junk", [b"", b"PK\x03\x04 and no more", b"\x93NUMPY\x01\x00", b"x" * 99])
def test_a_damaged_file_counts_as_none(tmp_path: Path, junk: bytes) -> None:
    path = tmp_path / "training"
    path.write_bytes(junk)
    assert Checkpoint(path).resume() is None


def test_a_truncated_file_counts_as_none(tmp_path: Path) -> None:
    path = tmp_path / "training"
    Checkpoint(path, 0).offer(lambda: {"n": np.arange(1000)})
    path.write_bytes(path.read_bytes()[:-50])
    assert Checkpoint(path).resume() is None


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "training"
    with path.open("wb") as file:
        np.savez(file, evil=np.asarray([{"a": 1}], dtype=object))
    assert Checkpoint(path).resume() is None


def test_a_full_disk_is_told_of_once_and_does_not_end_the_training(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    caplog.set_level("WARNING", "learning.checkpoint")
    path = tmp_path / "training"
    checkpoint = Checkpoint(path, every_s=0)
    for _ in range(3):
        checkpoint.offer(lambda: {"n": np.arange(100_000)})
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "No space left" in record.getMessage()
    assert not path.exists()
    monkeypatch.undo()
    checkpoint.offer(lambda: {"n": np.asarray(1)})
    assert Checkpoint(path).resume() is not None, "there is room again"


def test_only_what_is_saved_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "training"
    Checkpoint(path, 0).offer(lambda: {"n": np.asarray(1)})
    found = Checkpoint(path).resume()
    assert found is not None
    assert set(found) == {"n"}
