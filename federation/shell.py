"""The thin shell around a core: one loop that takes events from a queue and carries effects out.

Other threads (the network's, a worker's) only put things into the queue. An item is an event for
the core, or a call: a function that the loop runs, and that may give an event for the core. The
loop also gives the service manager its signs of life, so a loop that hangs is found out.
"""

from __future__ import annotations

import logging
import queue
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from types import FrameType
from typing import Any, Protocol

from config.failures import ExitCode, Failure
from config.logs import facts
from config.settings import Link
from federation.files import is_storage_full
from federation.machine import (
    Level,
    Linked,
    Log,
    Moment,
    Publish,
    Received,
    Stop,
    StorageFull,
    Subscribe,
    Tick,
    Unsubscribe,
)
from federation.session import Drained, Session
from federation.watch import Watch

LONGEST_WAIT_S = 3600.0
TRAFFIC_EVERY_S = 1.0
MESSAGE_BYTES = 256


class Core(Protocol):
    """What the loop asks of a core; each role's core has its own events and effects."""

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`; infinity if never."""

    def handle(self, event: Any, at: Moment) -> Sequence[Any]:
        """Take one event and give the effects to carry out, in order."""


class Shell:
    """The loop of one role, from start to stop."""

    def __init__(
        self,
        role: str,
        watch: Watch | None = None,
        listener: Callable[[Sequence[Any]], object] = lambda _: None,
    ) -> None:
        """Make a loop that does not run yet.

        Args:
            role: in whose name it logs.
            watch: who watches from outside.
            listener: told of all effects, before they are carried out.
        """
        self._log = logging.getLogger(role)
        self._watch = watch or Watch()
        self._listener = listener
        self._items: queue.SimpleQueue[Any] = queue.SimpleQueue()
        # Each has one writer, so none needs a lock: the network's thread, and the loop's.
        self._received_bytes = 0
        self._taken_bytes = 0
        self._told_traffic = (0, 0)
        self._told_s = -inf

    def put(self, event: object) -> None:
        """An event for the core; from any thread, what was received from one only."""
        self._received_bytes += _size(event)
        self._items.put(event)

    def waiting_bytes(self) -> int:
        """What was received and waits for the core: the session reads on when it is less."""
        return self._received_bytes - self._taken_bytes

    def call(self, function: Callable[[], object], effect: object = None) -> None:
        """Have the loop run `function`; what it gives, unless None, is an event for the core.

        Args:
            effect: what it finishes to carry out, for `StorageFull`.
        """
        self._items.put(_Call(function, effect))

    def run(
        self,
        core: Core,
        session: Session,
        link: Link,
        carry_out: Callable[[Any], None],
        when_drained: Callable[[], object] = lambda: None,
    ) -> Stop:
        """Start the session and loop until the core, or a signal, says stop.

        Args:
            carry_out: carries out the effects that are the role's own.
            when_drained: called when the session has room for more bulk.

        An effect that a full disk does not let it carry out is told to the core: `StorageFull`.

        Raises:
            Failure: the broker was not reached in the time that the settings give it.
        """
        self._heed_signals()
        session.start()
        self._watch.begin()
        give_up_s = time.monotonic() + (link.give_up_after_s or inf)
        while True:
            due_s = min(core.next_tick_s, give_up_s, self._traffic_due_s(session))
            item = self._next(min(due_s, self._watch.due_s))
            if isinstance(item, _Call):
                item = _unless_full(item.function, item.effect)
            if isinstance(item, Linked):
                give_up_s = inf
            if time.monotonic() >= give_up_s:
                session.stop()
                raise Failure(
                    ExitCode.UNAVAILABLE,
                    f"no broker answered at {link.host}:{link.port} in "
                    f"{link.give_up_after_s:g} s; is one running there?",
                )
            self.tell_traffic(session)
            self._watch.look()
            match item:
                case None:
                    continue
                case Stop():
                    return self._ended(item)
                case Drained():
                    when_drained()
                    continue
            moment = Moment(time.monotonic(), random.random())
            effects = core.handle(item, moment)
            self._listener(effects)
            for effect in effects:
                match effect:
                    case Publish():
                        session.publish(effect)
                    case Subscribe():
                        session.subscribe(effect.topics)
                    case Unsubscribe():
                        session.unsubscribe(effect.topics)
                    case Log():
                        self.tell(effect)
                    case Stop():
                        return self._ended(effect)
                    case _:
                        full = _unless_full(partial(carry_out, effect), effect)
                        if full is not None:
                            self.put(full)
            if effects or not isinstance(item, Tick):
                self._watch.something_happened()

    def _ended(self, stop: Stop) -> Stop:
        self._watch.end()
        # What is not as it should be is told as a failure, by whoever raises it.
        if stop.exit_code == ExitCode.OK:
            self.tell(Log(Level.INFO, stop.text))
        return stop

    def tell(self, line: Log) -> None:
        """Write a line to the log."""
        self._log.log(line.level.value, line.text, extra=facts(**line.facts))

    def tell_traffic(self, session: Session) -> None:
        """Write what was sent and received, if it is anything new and not too often."""
        if time.monotonic() < self._traffic_due_s(session):
            return
        self._told_traffic, self._told_s = session.traffic, time.monotonic()
        sent, received = self._told_traffic
        self._log.debug("traffic", extra=facts(sent_bytes=sent, received_bytes=received))

    def _traffic_due_s(self, session: Session) -> float:
        # Without this level nobody wants to know, and the loop need not wake for it.
        if not self._log.isEnabledFor(logging.DEBUG) or session.traffic == self._told_traffic:
            return inf
        return self._told_s + TRAFFIC_EVERY_S

    def _next(self, due_s: float) -> Any:
        wait_s = min(due_s - time.monotonic(), LONGEST_WAIT_S)
        if wait_s <= 0 and self._items.empty():
            return Tick()
        try:
            item = self._items.get(timeout=max(wait_s, 0.0))
        except queue.Empty:
            return Tick()
        self._taken_bytes += _size(item)
        return item

    def _heed_signals(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return

        def stop(number: int, _frame: FrameType | None) -> None:
            self._items.put(Stop(ExitCode.OK, f"stopped by {signal.Signals(number).name}"))

        def reload(_number: int, _frame: FrameType | None) -> None:
            self._items.put(_Call(self._watch.reload, None))

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)
        signal.signal(signal.SIGHUP, reload)


def end_with(stop: Stop) -> Stop:
    """The stop again, if the role ended as it should.

    Raises:
        Failure: it did not; with the line and the exit code of the stop.
    """
    if stop.exit_code != ExitCode.OK:
        raise Failure(ExitCode(stop.exit_code), stop.text)
    return stop


def _unless_full(function: Callable[[], Any], effect: object) -> Any:
    """What `function` gives; where it finds the disk full, the event that says so."""
    try:
        return function()
    except (OSError, sqlite3.Error) as error:
        if not is_storage_full(error):
            raise
        return StorageFull(effect)


def _size(item: object) -> int:
    """What a received message takes in memory, about."""
    return len(item.payload) + MESSAGE_BYTES if isinstance(item, Received) else 0


class _Call:
    __slots__ = ("effect", "function")

    def __init__(self, function: Callable[[], object], effect: object) -> None:
        self.function = function
        self.effect = effect
