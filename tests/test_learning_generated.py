"""Generated images: repeatable, balanced, and something that can be learnt."""

from __future__ import annotations

import numpy as np
import pytest

from config.sections import TrainingPlan
from learning.checkpoint import Checkpoint
from learning.cifar10 import Cifar10, as_tensors
from learning.data import as_chunk
from learning.generated import generated_images
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def test_generated_images_say_what_they_are() -> None:
    images = generated_images(train=20, test=10, seed=1)
    assert images.generated
    assert images.source == "generated images (seed 1)"
    assert len(images.class_names) == 10
    assert images.train_images.shape == (20, 3, 32, 32)
    assert images.test_images.dtype == np.uint8


def test_the_same_seed_gives_the_same_images_and_another_seed_others() -> None:
    first, again, other = (generated_images(train=20, test=10, seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(first.train_images, again.train_images)
    assert np.array_equal(first.test_labels, again.test_labels)
    assert not np.array_equal(first.train_images, other.train_images)


def test_all_classes_are_equally_frequent() -> None:
    images = generated_images(train=50, test=20, seed=0)
    assert np.bincount(images.train_labels).tolist() == [5] * 10
    assert np.bincount(images.test_labels).tolist() == [2] * 10


def test_training_and_test_images_differ() -> None:
    images = generated_images(train=20, test=20, seed=0)
    train = {image.tobytes() for image in images.train_images}
    test = {image.tobytes() for image in images.test_images}
    assert len(train) == len(test) == 20
    assert not train & test


def test_the_fast_cnn_learns_them_but_not_at_once() -> None:
    images = generated_images(train=1000, test=300, seed=0)
    task, data = Cifar10(), as_tensors(as_chunk(images), images.source)
    plan = TrainingPlan(model="fast-cnn", epochs=5, learning_rate=0.05, momentum=0.0, batch_size=16)
    model = task.build_model(plan)
    task.train(
        model, data, plan, seed=0, on_step=lambda done, loss: None, checkpoint=Checkpoint(None)
    )
    metrics = task.evaluate(model, data, on_step=lambda done, loss: None).metrics
    assert 0.25 < metrics["accuracy"] < 0.9
