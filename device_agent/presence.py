"""The device's presence: born on every link, and alone under its id.

The last agent to be born under an id keeps it; who finds that it is another one yields. A broker
may take the older connection down when the newer one comes. Then the older agent finds, when it is
back, that the last word on its topic is another's: a birth, or a will.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from config.failures import ExitCode
from device_agent.vocabulary import AgentEffect
from federation.incarnation import is_of_earlier_start
from federation.machine import Moment, Publish, Stop
from federation.messages import DevicePresence, State, encode

GRACE_S = 0.5
SPREAD_S = 1.0


@dataclass(frozen=True, slots=True)
class Self:
    """Who this agent is: its id, its outbox, this start of it, and what it can learn.

    `privacy` is what its noise promises, for people; empty without noise.
    """

    device: str
    outbox: bytes
    process: bytes
    boot: int
    task: str
    agent: str
    privacy: str = ""

    def presence(self, state: State, incarnation: int, paused: str = "") -> DevicePresence:
        """What a device says of itself when it comes, and its will when it is gone."""
        return DevicePresence(
            state=state,
            outbox=self.outbox,
            process=self.process,
            incarnation=incarnation,
            agent=self.agent,
            task=self.task,
            paused=paused,
            privacy=self.privacy,
        )


class Presence:
    """What is said on the device's own topic, by this agent and by others."""

    def __init__(self, me: Self, topic: str) -> None:
        self._me = me
        self._topic = topic
        self._incarnation = 0
        self._was_heard = False
        self._birth_s = inf
        self._paused = ""

    @property
    def due_s(self) -> float:
        """When the birth is to be told."""
        return self._birth_s

    def link_up(self, incarnation: int, at: Moment) -> None:
        """A new connection: tell the birth, but hear first whether another one has come since."""
        self._incarnation = incarnation
        self._birth_s = at.now_s + (GRACE_S if self._was_heard else 0)

    def coordinator_came(self, at: Moment) -> None:
        """Tell the birth again: not every broker gives a newcomer what is retained."""
        if self._birth_s == inf:
            self._birth_s = at.now_s + at.chance * SPREAD_S

    def pause(self, why: str, at: Moment) -> None:
        """Why the device does not work for now, or nothing: what is retained is to say so."""
        if why == self._paused:
            return
        self._paused = why
        if self._birth_s == inf:
            self._birth_s = at.now_s

    def advance(self, at: Moment) -> list[AgentEffect]:
        """Tell the birth if it is time."""
        if at.now_s < self._birth_s:
            return []
        self._birth_s = inf
        birth = self._me.presence(State.ONLINE, self._incarnation, self._paused)
        return [Publish(self._topic, encode(birth), retain=True)]

    def heard(self, presence: DevicePresence, retained: bool, at: Moment) -> list[AgentEffect]:
        """A word on the own topic: yield to an agent that came later."""
        me = self._me
        if presence.process == me.process:
            self._was_heard = True
            if self._birth_s < inf:
                self._birth_s = at.now_s  # nobody else has come: no need to wait longer
            return []
        own_past = presence.outbox == me.outbox and is_of_earlier_start(
            presence.incarnation, me.boot
        )
        if own_past or not self._was_heard:
            return []
        if presence.state is State.OFFLINE and not retained:
            # The late will of a predecessor: what is retained must not be its word.
            self._birth_s = at.now_s
            return []
        text = (
            f"another agent has taken over the device id {me.device!r}; "
            "each device needs an id of its own"
        )
        return [Stop(ExitCode.DUPLICATE, text)]
