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
        self.dozing = False
        self.down = True
        self._time = broker.time
        self._broker = broker
        self._chance = chance
        self._asked = 0
        self._life = 0

    def connect(self, identity: Identity, bandwidth: float | None = None) -> None:
        """Begin to have a link; if it has no bandwidth of its own, one as the broker has it."""
        self.down = False
        self.session = LoopbackSession(self._broker, identity, self.tell, bandwidth)
        if self.dozing:
            self.session.leave()
        self.session.start()

    def doze(self) -> None:
        """Be away: without a link, and nothing happens by itself."""
        self.dozing = True
        self.session.leave()

    def wake(self) -> None:
        """Be there again."""
        self.dozing = False
        self.session.come_back()
        self.tell(Tick())

    def die(self) -> None:
        """Be killed: what was to happen to this life happens no more."""
        self.down = True
        self._life += 1
        self._asked += 1
        self.session.vanish()

    def tell(self, event: Any) -> None:
        """Hand an event to the core, after whatever is happening now."""
        self.tell_later(0.0, event)

    def tell_later(self, delay_s: float, event: Any) -> None:
        """Hand an event to the core after so many seconds."""
        life = self._life
        self._time.call_in(delay_s, lambda: self._hear(life, event))

    def handle(self, event: Any) -> None:
        """Hand an event to the core now, and do what it asks for."""
        if self.stopped is not None or self.down:
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

    def _hear(self, life: int, event: Any) -> None:
        if life == self._life:
            self.handle(event)

    def _tick(self, asked: int) -> None:
        # Else it was asked since, and has said anew when to be; or it dozes, and is when it wakes.
        if asked == self._asked and not self.dozing:
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
