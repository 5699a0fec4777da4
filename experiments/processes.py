"""A pool of processes beside this one, whose start no signal disturbs."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, resource_tracker
from typing import Any

from experiments.interruption import held_back


@contextmanager
def process_pool(
    number: int, begin: Callable[..., object], *given: Any
) -> Iterator[ProcessPoolExecutor]:
    """So many processes, each of which begins with `begin(*given)`; deaf to Ctrl-C.

    This process decides when they end, at the latest with the context. Were it ended while one of
    them is being started, that one would complain of what it was not told.
    """
    pool = ProcessPoolExecutor(
        number, mp_context=get_context("spawn"), initializer=begin, initargs=given
    )
    try:
        with held_back(), _inherited_deafness():
            pool.submit(os.getpid)  # starts all of them
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def _inherited_deafness() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl-C; this one hears it afterwards."""
    resource_tracker.ensure_running()  # where it starts, it lets Ctrl-C in again
    former = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)
