"""Finding a task by its name."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from learning.chunks import write_chunk
from learning.cifar10 import Cifar10
from learning.data import as_chunk
from learning.generated import generated_images
from learning.tasks import resolve
from learning.vectors import vector_of


def test_cifar10_is_built_in() -> None:
    assert isinstance(resolve("cifar10"), Cifar10)


def test_another_task_is_made_by_the_factory_that_its_name_says() -> None:
    assert isinstance(resolve("learning.cifar10:Cifar10"), Cifar10)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("mnist", r"no task 'mnist': known are cifar10; others are named module:factory"),
        ("no_such_module:make", "ModuleNotFoundError"),
        ("learning.cifar10:Nothing", "AttributeError"),
        ("learning.cifar10:CLASSES", "TypeError"),
        ("builtins:dict", r"its factory made a dict without build_model\(\)"),
    ],
)
def test_a_task_that_cannot_be_had_is_told_in_one_line(name: str, reason: str) -> None:
    with pytest.raises(Failure, match=reason) as caught:
        resolve(name)
    assert caught.value.code is ExitCode.CONFIG
    assert "\n" not in caught.value.message


def test_a_factory_that_fails_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_task.py").write_text("def make():\n    raise ValueError('a\\nb')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Failure, match="no task 'broken_task:make': ValueError: a") as caught:
        resolve("broken_task:make")
    sys.modules.pop("broken_task")
    assert "\n" not in caught.value.message


def test_the_model_of_the_plan_comes_from_its_name_and_seed() -> None:
    task = resolve("cifar10")
    first, again, other = (
        vector_of(task.build_model(TrainingPlan(model="tutorial-cnn", seed=seed)))
        for seed in (1, 1, 2)
    )
    assert first.size == 62_006
    assert (first == again).all()
    assert (first != other).any()


def test_a_chunk_is_loaded_with_its_label_of_being_generated(tmp_path: Path) -> None:
    images = generated_images(train=3, test=2, seed=0)
    write_chunk(tmp_path / "chunk.npz", as_chunk(images))
    task = resolve("cifar10")
    data = task.load(tmp_path / "chunk.npz")
    assert task.is_generated(data)
    assert data.train_images.shape == (3, 32, 32, 3)
    assert data.held_out_labels.tolist() == images.test_labels.tolist()


def test_a_chunk_with_more_than_ten_classes_is_refused(tmp_path: Path) -> None:
    images = generated_images(train=3, test=2, seed=0)
    eleven = replace(as_chunk(images), class_names=tuple(map(str, range(11))))
    write_chunk(tmp_path / "chunk.npz", eleven)
    with pytest.raises(Failure, match=r"chunk\.npz: 11 classes; cifar10 tells 10 apart"):
        resolve("cifar10").load(tmp_path / "chunk.npz")
