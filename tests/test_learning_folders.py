"""Folders of images, read strictly."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from config.failures import ExitCode, Failure
from learning.folders import folder_images


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes, `cat` in red and `dog` in blue, three images to train and one to test."""
    for part, count in (("train", 3), ("test", 1)):
        for name, colour in (("dog", (0, 0, 200)), ("cat", (200, 0, 0))):
            (tmp_path / part / name).mkdir(parents=True)
            for index in range(count):
                image = Image.new("RGB", (32, 32), colour)
                image.putpixel((1, 2), (index, 9, 9))
                image.save(tmp_path / part / name / f"{index}.png")
    return tmp_path


def test_classes_and_files_are_read_in_the_order_of_their_names(folder: Path) -> None:
    images = folder_images(folder)
    assert images.class_names == ("cat", "dog")
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.test_labels.tolist() == [0, 1]
    assert images.train_images.shape == (6, 3, 32, 32)
    assert images.train_images[:, 0, 0, 0].tolist() == [200, 200, 200, 0, 0, 0]
    assert images.test_images[:, 2, 0, 0].tolist() == [0, 200]
    # The pixel at x = 1, y = 2 tells the files apart.
    assert images.train_images[:, 0, 2, 1].tolist() == [0, 1, 2, 0, 1, 2]
    assert not images.generated


def test_jpeg_images_are_read(folder: Path) -> None:
    Image.new("RGB", (32, 32), (200, 0, 0)).save(folder / "train" / "cat" / "3.jpg")
    assert abs(int(folder_images(folder).train_images[3, 0, 0, 0]) - 200) < 4


def test_hidden_files_are_no_images(folder: Path) -> None:
    (folder / "train" / "cat" / ".listing").write_text("not an image")
    (folder / "train" / ".cache").mkdir()
    assert len(folder_images(folder).train_labels) == 6


def test_reading_is_told_up_to_the_end(folder: Path) -> None:
    told: list[tuple[int, int]] = []
    folder_images(folder, lambda done, total: told.append((done, total)))
    assert told[-1] == (8, 8)


def _grey(folder: Path) -> None:
    Image.new("L", (32, 32)).save(folder / "train" / "cat" / "1.png")


def _large(folder: Path) -> None:
    Image.new("RGB", (64, 32)).save(folder / "test" / "dog" / "0.png")


def _text(folder: Path) -> None:
    (folder / "train" / "cat" / "notes.txt").write_text("hello")


def _cut(folder: Path) -> None:
    path = folder / "train" / "dog" / "2.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-300])


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, r"no images at .*train: No such file"),
    "no test": (lambda f: shutil.rmtree(f / "test"), r"no images at .*test: No such file"),
    "no classes": (
        lambda f: [shutil.rmtree(path) for path in (f / "train").iterdir()],
        r"train holds no folders of images",
    ),
    "empty class": (
        lambda f: [path.unlink() for path in (f / "train" / "cat").iterdir()],
        r"train/cat holds no images",
    ),
    "class without test": (
        lambda f: shutil.rmtree(f / "test" / "dog"),
        r"train and test have different classes: dog",
    ),
    "grey image": (_grey, r"cat/1\.png has 32 x 32 pixels in L; all must be 32 x 32 in RGB"),
    "large image": (_large, r"dog/0\.png has 64 x 32 pixels in RGB"),
    "no image": (_text, r"cat/notes\.txt cannot be read as an image"),
    "cut image": (_cut, r"dog/2\.jpg cannot be read as an image"),
    "directory": (lambda f: (f / "train" / "cat" / "more").mkdir(), r"cat/more cannot be read"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_folder_that_is_not_right_is_refused_with_the_path(folder: Path, name: str) -> None:
    change, reason = FAULTS[name]
    change(folder)
    with pytest.raises(Failure, match=reason) as caught:
        folder_images(folder)
    assert caught.value.code is ExitCode.NO_INPUT
    assert "\n" not in caught.value.message


def test_without_pillow_the_failure_says_so(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(Failure, match="Pillow, which is not installed"):
        folder_images(folder)
