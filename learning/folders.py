"""A folder of images, `train/<class>/*` and `test/<class>/*`, read strictly and completely.

Every file must be an image of 32 x 32 pixels in RGB: what is skipped in silence would be missed
in a figure. Names are sorted, so that the same folder gives the same set on every machine.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from config.failures import ExitCode, Failure, first_line
from learning.chunks import IMAGE_SHAPE, MAX_CLASSES, MAX_IMAGES, MAX_NAME, Images, Labels
from learning.data import ImageSet

_SIDE = IMAGE_SHAPE[1]
_BATCH = 500

# Told how many images have been read, and how many there are.
OnRead = Callable[[int, int], None]


def folder_images(folder: Path, on_read: OnRead = lambda done, total: None) -> ImageSet:
    """Read all images of a folder.

    Raises:
        Failure: a folder or image is missing, unreadable or not as it has to be.
    """
    class_names = _class_names(folder / "train")
    test_names = _class_names(folder / "test")
    if test_names != class_names:
        differing = sorted(set(class_names) ^ set(test_names))
        raise _fault(f"{folder}: train and test have different classes: {', '.join(differing)}")
    train_paths, train_labels = _files(folder / "train", class_names)
    test_paths, test_labels = _files(folder / "test", class_names)
    images = _read(train_paths + test_paths, on_read)
    return ImageSet(
        images[: len(train_paths)],
        train_labels,
        images[len(train_paths) :],
        test_labels,
        class_names=class_names,
        source=f"images in {folder}",
        generated=False,
    )


def _class_names(part: Path) -> tuple[str, ...]:
    try:
        with os.scandir(part) as entries:
            names = sorted(
                entry.name for entry in entries if entry.is_dir() and entry.name[0] != "."
            )
    except OSError as error:
        raise _fault(f"no images at {part}: {error.strerror}") from None
    if not names:
        raise _fault(f"{part} holds no folders of images, one for each class")
    if len(names) > MAX_CLASSES or max(map(len, names)) > MAX_NAME:
        raise _fault(f"{part}: at most {MAX_CLASSES} classes with names of {MAX_NAME} characters")
    return tuple(names)


def _files(part: Path, class_names: tuple[str, ...]) -> tuple[list[Path], Labels]:
    paths: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(class_names):
        found = sorted(path for path in (part / name).iterdir() if path.name[0] != ".")
        if not found:
            raise _fault(f"{part / name} holds no images")
        paths += found
        labels += [label] * len(found)
    if len(paths) > MAX_IMAGES:
        raise _fault(f"{part} holds {len(paths)} images; at most {MAX_IMAGES} are read")
    return paths, np.array(labels, np.int64)


def _read(paths: list[Path], on_read: OnRead) -> Images:
    try:
        # Devices have no Pillow: only a folder needs it.
        from PIL import Image, UnidentifiedImageError  # noqa: PLC0415
    except ImportError:
        raise _fault("image files are read by Pillow, which is not installed") from None

    def decode(path: Path) -> bytes:
        try:
            with Image.open(path) as image:
                if image.size != (_SIDE, _SIDE) or image.mode != "RGB":
                    width, height = image.size
                    raise _fault(
                        f"{path} has {width} x {height} pixels in {image.mode};"
                        f" all must be {_SIDE} x {_SIDE} in RGB"
                    )
                return image.tobytes()
        except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
            line = first_line(error)
            raise _fault(f"{path} cannot be read as an image: {line}") from None

    def decode_batch(start: int) -> Images:
        batch = paths[start : start + _BATCH]
        pixels = np.frombuffer(b"".join(map(decode, batch)), np.uint8)
        return pixels.reshape(len(batch), _SIDE, _SIDE, 3).transpose(0, 3, 1, 2)

    images = np.empty((len(paths), *IMAGE_SHAPE), np.uint8)
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            for batch in pool.map(decode_batch, range(0, len(paths), _BATCH)):
                images[done : done + len(batch)] = batch
                done += len(batch)
                on_read(done, len(paths))
        except BaseException:
            # The first bad image ends it.
            pool.shutdown(cancel_futures=True)
            raise
    return images


def _fault(message: str) -> Failure:
    return Failure(ExitCode.NO_INPUT, message)
