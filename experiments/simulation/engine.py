"""Where the trainings of a simulation are computed: here, in processes beside, or on a cluster.

A simulation has as many trainings under way as it has devices, and knows when each is due in
virtual time. What is due first is computed first, so that whoever waits waits least, and what is
given up before its time is mostly never computed. A job decides its result alone, so the same
seed gives the same bytes with any engine.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import count
from threading import RLock
from typing import Any, Generic, Protocol, TypeVar

from config.failures import ExitCode, Failure
from experiments.processes import process_pool
from experiments.simulation.bench import Bench, Job, World, begin, do

R = TypeVar("R")
R_co = TypeVar("R_co", covariant=True)


class Pending(Protocol[R_co]):
    """A job that was handed in."""

    def result(self) -> R_co:
        """Wait for what it gives, or raise what it raised."""
        ...

    def cancel(self) -> object:
        """It need not be done any more."""
        ...


class Engine(Protocol):
    """What does jobs."""

    def submit(self, job: Job[R], due_s: float) -> Pending[R]:
        """Hand a job in whose result is wanted at this virtual time."""
        ...


class EngineEnded(Failure):
    """What computes the trainings is gone: nothing that was begun will come to an end."""

    def __init__(self, message: str) -> None:
        super().__init__(ExitCode.FAILURE, message)

    def __reduce__(self) -> tuple[type[EngineEnded], tuple[str]]:
        """For pickling: it is made of its message alone."""
        return EngineEnded, (self.message,)


class Inline:
    """Does each job in this process when its result is asked for."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench

    def submit(self, job: Job[R], due_s: float) -> Pending[R]:
        """As `Engine` says."""
        return _Inline(job, self._bench)


class Queue:
    """Hands jobs to a few who do them at a time, in the order in which they are due."""

    def __init__(self, launch: Callable[[Job[Any]], Future[Any]], at_once: int) -> None:
        self._launch = launch
        self._free = at_once
        self._waiting: list[tuple[float, int, Job[Any], Future[Any]]] = []
        self._order = count()
        self._lock = RLock()
        self._end: BaseException | None = None

    def submit(self, job: Job[R], due_s: float) -> Pending[R]:
        """As `Engine` says."""
        promise: Future[R] = Future()
        with self._lock:
            heapq.heappush(self._waiting, (due_s, next(self._order), job, promise))
        self._go_on()
        return promise

    def _go_on(self) -> None:
        with self._lock:
            while self._waiting and (self._free or self._end is not None):
                _, _, job, promise = heapq.heappop(self._waiting)
                if not promise.set_running_or_notify_cancel():
                    continue
                if self._end is not None:
                    promise.set_exception(self._end)
                    continue
                self._free -= 1
                try:
                    done = self._launch(job)
                except RuntimeError as error:  # of a pool that is broken or closed
                    self._end = _explained(error)
                    promise.set_exception(self._end)
                    continue
                done.add_done_callback(partial(self._ended, promise))

    def _ended(self, promise: Future[Any], done: Future[Any]) -> None:
        # A pool that is closed gives up what it has not begun.
        error = CancelledError() if done.cancelled() else done.exception()
        with self._lock:
            self._free += 1
            if error is not None:
                error = _explained(error)
                if isinstance(error, EngineEnded):
                    self._end = error  # a pool that is broken takes no more, and must not be asked
        if error is not None:
            promise.set_exception(error)
        else:
            promise.set_result(done.result())
        self._go_on()


@contextmanager
def inline_engine(world: World) -> Iterator[Inline]:
    """One job after the other, in this process."""
    yield Inline(Bench(world.load()))


@contextmanager
def local_engine(world: World, workers: int) -> Iterator[Queue]:
    """So many processes of this machine, 0 for one a core; each with one thread."""
    number = workers or os.cpu_count() or 1
    with process_pool(number, begin, world) as pool:
        # One more than are at work, so that none waits for this process to hand it the next.
        yield Queue(lambda job: pool.submit(do, job), number + 1)


class _Inline(Generic[R]):
    def __init__(self, job: Job[R], bench: Bench) -> None:
        self._job, self._bench = job, bench

    def result(self) -> R:
        return self._job.do(self._bench)

    def cancel(self) -> None:
        pass


def _explained(error: BaseException) -> BaseException:
    if isinstance(error, BrokenProcessPool):
        return EngineEnded(
            "a process that trains ended unexpectedly, perhaps for want of memory; give fewer"
            " with --workers",
        )
    return error
