"""`flockwise lab baseline`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from experiments.baseline import Epoch, main, train_centrally
from learning.generated import generated_images
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = ["--generated", "--examples", "120", "--test-examples", "50", "--threads", "1"]


def plan(**changes: object) -> TrainingPlan:
    return TrainingPlan.model_validate({"model": "tutorial-cnn", "epochs": 1.0} | changes)


def epochs_of(epochs: float) -> list[float]:
    images = generated_images(train=70, test=20, seed=0)
    told: list[Epoch] = []
    result = train_centrally(images, plan(epochs=epochs), threads=1, on_epoch=told.append)
    assert list(result.epochs) == told
    return [epoch.epoch for epoch in told]


@pytest.mark.parametrize(
    ("epochs", "tested_at"), [(1, [1]), (3, [1, 2, 3]), (2.5, [1, 2, 2.5]), (0.5, [0.5])]
)
def test_the_model_is_tested_after_each_epoch_and_at_the_end(
    epochs: float, tested_at: list[float]
) -> None:
    assert epochs_of(epochs) == tested_at


def test_the_result_tells_the_last_accuracy_and_what_was_trained() -> None:
    images = generated_images(train=64, test=20, seed=0)
    result = train_centrally(images, plan(), threads=1, on_epoch=lambda epoch: None)
    assert result.accuracy == result.epochs[-1].accuracy
    assert (result.model, result.parameters) == ("tutorial-cnn", 62_006)
    assert (result.train_examples, result.test_examples) == (64, 20)
    assert result.generated


def test_a_central_training_learns() -> None:
    images = generated_images(train=600, test=200, seed=0)
    small_steps = plan(model="fast-cnn", epochs=6, learning_rate=0.05, batch_size=16, momentum=0.0)
    result = train_centrally(images, small_steps, threads=1, on_epoch=lambda epoch: None)
    losses = [epoch.loss for epoch in result.epochs if epoch.loss is not None]
    assert len(losses) == 6
    assert losses[-1] < losses[0]
    assert result.accuracy > 0.15


def test_the_same_seed_gives_the_same_accuracy() -> None:
    images = generated_images(train=120, test=100, seed=0)
    first, again = (
        train_centrally(images, plan(seed=3), threads=1, on_epoch=lambda epoch: None)
        for _ in range(2)
    )
    assert [epoch.loss for epoch in first.epochs] == [epoch.loss for epoch in again.epochs]


def test_each_epoch_is_shown_with_the_label_of_generated_images(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main([*SMALL, "--epochs", "2", "--model", "tutorial-cnn"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:2]] == [["epoch", "1"], ["epoch", "2"]]
    assert lines[2].startswith("tutorial-cnn (62006 parameters) on 120 of generated images")
    assert all("GENERATED, NOT REAL" in line for line in lines)


def test_a_summary_is_written_as_json(tmp_path: Path) -> None:
    path = tmp_path / "baseline.json"
    main([*SMALL, "--epochs", "1", "--learning-rate", "0.02", "--summary", str(path)])
    summary = json.loads(path.read_bytes())
    assert summary["generated"] is True
    assert summary["plan"]["learning_rate"] == 0.02
    assert summary["accuracy"] == summary["epochs"][-1]["accuracy"]


def test_with_json_stdout_holds_the_result_only(capsys: pytest.CaptureFixture[str]) -> None:
    main([*SMALL, "--epochs", "1", "--no-augment", "--json"])
    shown = capsys.readouterr()
    assert json.loads(shown.out)["plan"]["augment"] is False
    assert "epoch" in shown.err


@pytest.mark.parametrize(
    ("options", "code", "reason"),
    [
        (["--epochs", "0"], ExitCode.USAGE, "argument --epochs: Input should be greater than 0"),
        (["--epochs", "nan"], ExitCode.USAGE, "argument --epochs"),
        (["--epochs", "x"], ExitCode.USAGE, "argument --epochs: invalid float value"),
        (["--batch-size", "0"], ExitCode.USAGE, "argument --batch-size"),
        (["--model", "vgg"], ExitCode.CONFIG, "unknown model 'vgg'"),
        (["--summary", "/nowhere/b.json"], ExitCode.CANNOT_WRITE, "cannot write /nowhere/b.json"),
        (["--learning-rate", "100"], ExitCode.FAILURE, "training diverged"),
        (["--data", "/nowhere"], ExitCode.USAGE, "not allowed with"),
    ],
)
def test_what_cannot_be_done_is_a_failure_of_one_line(
    options: list[str], code: ExitCode, reason: str
) -> None:
    with pytest.raises(Failure, match=reason) as caught:
        main([*SMALL, "--epochs", "1", *options])
    assert caught.value.code is code
    assert "\n" not in caught.value.message
