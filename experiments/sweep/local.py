"""The runs of a sweep on this machine: so many at a time, each in a process with one thread."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import get_context
from multiprocessing.synchronize import Event
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar

from config.failures import ExitCode, Failure
from config.simulation import SimulationSettings
from experiments.images import all_images, picked
from experiments.processes import process_pool
from experiments.sharing import SharedImages, end_with_parent, share_images
from experiments.sweep.points import Run
from experiments.sweep.rows import Row
from experiments.sweep.single import Rules, carry_out
from learning.data import ImageSet
from learning.runtime import prepare_torch


def rows_of(
    runs: Sequence[Run],
    rules: Rules,
    images: ImageSet | None,
    jobs: int,
    there: Iterable[Row] = (),
) -> Iterator[Row]:
    """The rows of the runs, as they end.

    Runs begin in their order, and none any more once one has reached the metric's target.

    Args:
        images: all images; None where each run makes its own.
        jobs: how many at a time, 0 for one a core.
        there: rows of earlier runs, with which these are compared.

    Raises:
        Failure: a process ended unexpectedly.
    """
    histories = {row.key: row.history for row in there}
    waiting, under_way = deque(runs), set[Future[Row | None]]()
    at_once = min(jobs or os.cpu_count() or 1, len(runs)) or 1
    with _pool(rules, images, at_once) as pool:
        while waiting or under_way:
            while waiting and len(under_way) < at_once:
                rivals = tuple(histories.values()) if rules.early_terminate else ()
                under_way.add(pool.submit(_carry_out, waiting.popleft(), rivals))
            ended, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            for future in ended:
                row = _row(future)
                if row is None:
                    continue
                histories[row.key] = row.history
                if rules.metric.is_reached(row.best):
                    waiting.clear()
                yield row


@contextmanager
def _pool(rules: Rules, images: ImageSet | None, jobs: int) -> Iterator[ProcessPoolExecutor]:
    over = get_context("spawn").Event()
    with TemporaryDirectory(prefix="flockwise-sweep-") as folder:
        shared = None if images is None else share_images(images, Path(folder))
        with process_pool(jobs, _begin, rules, shared, over) as pool:
            try:
                yield pool
            except BaseException:
                # What is under way ends at its next moment of virtual time; nobody takes it down.
                over.set()
                raise


def _row(future: Future[Row | None]) -> Row | None:
    try:
        return future.result()
    except BrokenProcessPool:
        raise Failure(
            ExitCode.FAILURE,
            "a process that simulates ended unexpectedly, perhaps for want of memory; give fewer"
            " with --jobs",
        ) from None


class Picker:
    """The images of one run after the other; those of the last one are kept."""

    def __init__(self, images: ImageSet | None) -> None:
        self._all = images
        self._last: tuple[object, ImageSet] | None = None

    def __call__(self, settings: SimulationSettings) -> ImageSet:
        """The images of these settings."""
        choice = settings.examples, settings.test_examples, settings.seed
        if self._last is None or self._last[0] != choice:
            every = all_images(settings) if self._all is None else self._all
            self._last = choice, picked(every, settings)
        return self._last[1]


class _Process:
    """What a process of the pool knows."""

    rules: ClassVar[Rules]
    picker: ClassVar[Picker]
    over: ClassVar[Event]


def _begin(rules: Rules, shared: SharedImages | None, over: Event) -> None:
    prepare_torch(1)
    end_with_parent()
    _Process.rules, _Process.over = rules, over
    _Process.picker = Picker(None if shared is None else shared.load())


def _carry_out(run: Run, rivals: Sequence[Sequence[float]]) -> Row | None:
    over = _Process.over
    if over.is_set():
        return None
    images = _Process.picker(run.settings)
    return carry_out(run, _Process.rules, images, rivals, over.is_set)
