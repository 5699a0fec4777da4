"""Sources of images."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest

from config.failures import ExitCode, Failure
from learning.data import (
    as_chunk,
    default_cache,
    device_chunk,
    downloaded_images,
    evaluation_chunk,
    limited,
)
from learning.generated import generated_images


def fake_torchvision(monkeypatch: pytest.MonkeyPatch, cifar10: object) -> None:
    datasets = ModuleType("torchvision.datasets")
    datasets.CIFAR10 = cifar10  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.datasets", datasets)


def test_downloaded_images_get_their_channels_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def cifar10(root: str, *, train: bool, download: bool) -> SimpleNamespace:
        asked.append((root, train, download))
        data = np.zeros((2, 32, 32, 3), np.uint8)
        data[0, 5, 6, 2] = 7 if train else 8
        return SimpleNamespace(data=data, targets=[1, 0], classes=["cat", "dog"])

    fake_torchvision(monkeypatch, cifar10)
    images = downloaded_images(tmp_path)
    assert asked == [(str(tmp_path), True, True), (str(tmp_path), False, True)]
    assert images.train_images[0, 2, 5, 6] == 7
    assert images.test_images[0, 2, 5, 6] == 8
    assert images.train_labels.tolist() == [1, 0]
    assert images.class_names == ("cat", "dog")
    assert not images.generated


def test_a_download_that_fails_is_told_in_one_line_with_the_ways_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cifar10(root: str, *, train: bool, download: bool) -> None:
        raise RuntimeError("File not found or corrupted.\nmore")

    fake_torchvision(monkeypatch, cifar10)
    with pytest.raises(Failure, match=r"corrupted.*--data.*--generated") as caught:
        downloaded_images(tmp_path)
    assert caught.value.code is ExitCode.NO_INPUT
    assert "\n" not in caught.value.message


def test_without_torchvision_the_failure_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(Failure, match="torchvision, which is not installed"):
        downloaded_images(tmp_path)


def test_downloads_are_kept_in_the_cache_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "flockwise"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_cache() == Path("/home/somebody/.cache/flockwise")


def test_a_limit_picks_examples_with_their_labels_by_seed() -> None:
    images = generated_images(train=60, test=20, seed=0)
    few, again, other = (limited(images, train=10, test=5, seed=seed) for seed in (1, 1, 2))
    assert (len(few.train_labels), len(few.test_labels)) == (10, 5)
    assert np.array_equal(few.train_images, again.train_images)
    assert not np.array_equal(few.train_images, other.train_images)
    known = {
        image.tobytes(): label
        for image, label in zip(images.train_images, images.train_labels, strict=True)
    }
    assert all(
        known[image.tobytes()] == label
        for image, label in zip(few.train_images, few.train_labels, strict=True)
    )


@pytest.mark.parametrize("most", [None, 60, 1000])
def test_no_limit_keeps_everything_in_its_order(most: int | None) -> None:
    images = generated_images(train=60, test=20, seed=0)
    assert np.array_equal(
        limited(images, train=most, test=most, seed=0).train_images, images.train_images
    )


def test_chunks_are_made_of_the_right_images() -> None:
    images = generated_images(train=6, test=4, seed=0)
    whole, test = as_chunk(images), evaluation_chunk(images)
    device = device_chunk(images, np.array([0, 5]), np.array([3]))
    assert np.array_equal(whole.train_images, images.train_images)
    assert np.array_equal(whole.held_out_images, images.test_images)
    assert len(test.train_labels) == 0
    assert np.array_equal(test.held_out_labels, images.test_labels)
    assert np.array_equal(device.train_images, images.train_images[[0, 5]])
    assert np.array_equal(device.held_out_labels, images.train_labels[[3]])
    assert whole.generated
    assert test.generated
    assert device.generated
