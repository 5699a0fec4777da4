"""Slow work aside: one thing after another in a thread of its own, so that the loop goes on."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from federation.shell import Shell

T = TypeVar("T")


class Aside:
    """The thread; what it gives comes back as a call into the loop."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="aside")

    def do(self, effect: object, work: Callable[[], T], finish: Callable[[T], object]) -> None:
        """Run `work` aside, and then `finish` with its result in the loop: it gives an event.

        Args:
            effect: what this carries out; should the disk be full, the core hears of it.
        """

        def done(future: Future[T]) -> None:
            if not future.cancelled():
                self._shell.call(lambda: finish(future.result()), effect)

        self._pool.submit(work).add_done_callback(done)

    def close(self) -> None:
        """Wait for what is being done; what waits is not done any more."""
        self._pool.shutdown(cancel_futures=True)
