"""What a sink looks up beyond its rows: the images of the tests, checkpoints, earlier rows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from config.failures import Failure
from config.logs import facts
from coordinator.reporting import Row, rows_in
from learning.chunks import Images, read_chunk

log = logging.getLogger(__name__)

# From indices into the test set to uint8[n, 3, height, width]; None where they cannot be had.
LookUp: TypeAlias = Callable[[Sequence[int]], Images | None]


@dataclass(frozen=True, slots=True)
class Sources:
    """Where a sink looks things up, in its own thread; it does without what is not there.

    Attributes:
        checkpoint: from a version to its checkpoint, if it is still stored.
        images: from indices into the test set to its images.
        test_set: the file of the test set, for its digest.
        earlier: the rows of earlier starts, oldest first; each call begins anew.
    """

    checkpoint: Callable[[int], Path | None] = lambda version: None
    images: LookUp = lambda indices: None
    test_set: Path | None = None
    earlier: Callable[[], Iterator[Row]] = lambda: iter(())


NOTHING = Sources()


def images_of(test_set: Path) -> LookUp:
    """The images of the held-out part of a chunk; the few that are asked for are kept."""
    kept: dict[int, Images] = {}

    def look_up(indices: Sequence[int]) -> Images | None:
        if not kept.keys() >= set(indices):
            try:
                images = read_chunk(test_set).held_out_images
                kept.clear()
                kept.update({index: images[index].copy() for index in indices})
            except (Failure, IndexError) as error:
                # A task of a user's own has files of its own, too.
                log.debug("no images of the test set", extra=facts(why=str(error)))
                return None
        return np.stack([kept[index] for index in indices]) if indices else None

    return look_up


def earlier_rows(path: Path) -> Callable[[], Iterator[Row]]:
    """The rows that are in a file of reports now, whatever is appended to it later."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0
    return lambda: rows_in(path, size)
