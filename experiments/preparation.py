"""The data of a run: images from where they can be had, and a chunk file for each device."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from sys import stderr

from config.failures import Failure
from config.settings import DemoSettings
from experiments.images import GENERATED_TEST, GENERATED_TRAIN
from experiments.partitioning import partition_images
from experiments.run_directory import RunDirectory
from learning.data import ImageSet, downloaded_images, limited
from learning.folders import OnRead, folder_images
from learning.generated import generated_images

_SILENCE_S = 20.0


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the chunks hold; `examples` are the images to train on, by the id of the device."""

    examples: Mapping[str, int]
    test_examples: int
    source: str
    generated: bool


def prepare(
    settings: DemoSettings, run: RunDirectory, say: Callable[[str], None], on_read: OnRead
) -> Prepared:
    """Write the chunks of all devices and the test set.

    Args:
        say: told what people should know, in one line.
        on_read: told how many images of a folder have been read, and how many there are.

    Raises:
        Failure: the folder of images is not as it has to be, there are fewer images than devices,
            or a chunk cannot be written.
    """
    images = find_images(settings, say, on_read)
    made = partition_images(
        limited(images, train=settings.examples, test=settings.test_examples, seed=settings.seed),
        run.chunks,
        devices=settings.devices,
        dirichlet=settings.dirichlet,
        seed=settings.seed,
    )
    examples = {Path(part.file).stem: part.train for part in made.devices}
    return Prepared(examples, made.test_examples, made.source, made.generated)


def find_images(settings: DemoSettings, say: Callable[[str], None], on_read: OnRead) -> ImageSet:
    """The folder's images, or CIFAR-10, or generated ones where that cannot be had.

    Raises:
        Failure: the folder is not as it has to be.
    """
    if settings.data is not None:
        return folder_images(settings.data, on_read)
    if not settings.generated:
        try:
            with _patience(_SILENCE_S), redirect_stdout(stderr):
                return downloaded_images()
        except Failure as failure:
            reason = failure.message.partition(";")[0]
            say(f"{reason}. Going on with GENERATED images: no figure of them is a real one.")
    return generated_images(
        train=settings.examples or max(GENERATED_TRAIN, settings.devices),
        test=settings.test_examples or GENERATED_TEST,
        seed=settings.seed,
    )


@contextmanager
def _patience(silence_s: float) -> Iterator[None]:
    """A network that swallows what is sent must not hold the demo up for ever."""
    former = socket.getdefaulttimeout()
    socket.setdefaulttimeout(silence_s)
    try:
        yield
    finally:
        socket.setdefaulttimeout(former)
