"""Processes beside this one that work on the same images: one copy of them, and one common end."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path

import numpy as np

from learning.data import ImageSet

_ARRAYS = ("train_images", "train_labels", "test_images", "test_labels")


@dataclass(frozen=True, slots=True)
class SharedImages:
    """Images in files of a folder, which every process of this machine can load."""

    folder: Path
    class_names: tuple[str, ...]
    source: str
    generated: bool

    def load(self) -> ImageSet:
        """The images; they stay on disk until they are used."""
        train, train_labels, test, test_labels = (
            np.load(self.folder / f"{name}.npy", mmap_mode="c") for name in _ARRAYS
        )
        rest = self.class_names, self.source, self.generated
        return ImageSet(train, train_labels, test, test_labels, *rest)


def share_images(images: ImageSet, folder: Path) -> SharedImages:
    """Write images where other processes find them."""
    for name in _ARRAYS:
        np.save(folder / f"{name}.npy", getattr(images, name))
    return SharedImages(folder, images.class_names, images.source, images.generated)


def end_with_parent() -> None:
    """End this process when its parent does, which may be killed: who would want its work then?"""
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
