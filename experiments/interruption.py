"""Ctrl-C and its kin, counted, not raised: the first asks for an end, the second for haste."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interruption:
    """What was asked for so far.

    Attributes:
        count: how often.
        first: the signal that came first.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: signal.Signals | None = None

    @property
    def exit_code(self) -> int:
        """The exit code of a process that was ended so, as shells report it."""
        return 128 + (self.first or signal.SIGINT)

    def heard(self, number: int, _frame: FrameType | None = None) -> None:
        """Take a signal."""
        self.first = self.first or signal.Signals(number)
        self.count += 1


@contextmanager
def cleaned_up() -> Iterator[None]:
    """SIGTERM and SIGHUP end what is done here as Ctrl-C does: nothing is left behind."""

    def end(number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    former = {number: signal.signal(number, end) for number in _SIGNALS if number != signal.SIGINT}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@contextmanager
def held_back() -> Iterator[None]:
    """What is done here is done to its end: signals that come meanwhile are heard after it."""
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are heard by the main thread alone
        return
    came: list[int] = []
    former = {n: signal.signal(n, lambda number, _: came.append(number)) for n in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
        for late in came:
            signal.raise_signal(late)


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Count signals as long as the context lasts; to be entered in the main thread."""
    interruption = Interruption()
    former = {number: signal.signal(number, interruption.heard) for number in _SIGNALS}
    try:
        yield interruption
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
