"""One role in virtual time: a core, its link to the loopback broker, and effects done in memory.

What `federation.shell` does with threads, files and a real clock happens here on a clock that
jumps. Time and chance of every moment come from the simulation, so a seed decides all of it.
"""

from __future__ import annotations

import random
from math import inf
from typing import Any, Protocol

from federation.loopback import LoopbackBroker, LoopbackSession
from federation.machine import Log, Moment, Publish, Stop, Subscribe, Tick, Unsubscribe
from federation.session import Identity

# A core that wants to be asked at once is asked a moment later, so that the clock goes on.
SHORTEST_TICK_S = 1e-3


class Core(Protocol):
    """What both cores are: events in, effects out, and when they want to be asked again."""

    def handle(self, event: Any, at: Moment) -> list[Any]:
        """Take one event; the effects are to be carried out in order."""

    @property
    def next_tick_s(self) -> float:
        """When the core wants a `Tick`."""


class VirtualParty:
    """A role of a simulated federation; its kinds say what their effects do."""

    core: Core

    def __init__(self, broker: LoopbackBroker, chance: random.Random) -> None:
        self.stopped: Stop | None = None
        self._time = broker.time
        self._broker = broker
        self._chance = chance
        self._asked = 0

    def connect(self, identity: Identity) -> None:
        """Begin to have a link."""
        self.session = LoopbackSession(self._broker, identity, self.tell)
        self.session.start()

    def tell(self, event: Any) -> None:
        """Hand an event to the core, after whatever is happening now."""
        self.tell_later(0.0, event)

    def tell_later(self, delay_s: float, event: Any) -> None:
        """Hand an event to the core after so many seconds."""
        self._time.call_in(delay_s, lambda: self.handle(event))

    def handle(self, event: Any) -> None:
        """Hand an event to the core now, and do what it asks for."""
        if self.stopped is not None:
            return
        at = Moment(self._time.now_s, self._chance.random())
        for effect in self.core.handle(event, at):
            self._carry_out(effect)
        self._asked += 1
        asked, due_s = self._asked, self.core.next_tick_s
        if due_s < inf:
            due_s = max(due_s, at.now_s + SHORTEST_TICK_S)
            self._time.call_at(due_s, lambda: self._tick(asked))

    def do(self, effect: Any) -> None:
        """Carry out an effect of this kind of role."""
        raise NotImplementedError

    def _tick(self, asked: int) -> None:
        if asked == self._asked:  # else it was asked since, and has said anew when to be
            self.handle(Tick())

    def _carry_out(self, effect: Any) -> None:
        match effect:
            case Publish():
                self.session.publish(effect)
            case Subscribe():
                self.session.subscribe(effect.topics)
            case Unsubscribe():
                self.session.unsubscribe(effect.topics)
            case Log():
                pass
            case Stop():
                self.stopped = effect
                self.session.stop()
            case _:
                self.do(effect)
