"""What a run of rounds without training showed, whoever made them."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import TracebackType
from typing import Self

from benchmarks.families import command_of, family_of, held_bytes, worked_s
from benchmarks.relay import Carried, Relay

LOOK_S = 0.5
TRAINING = "training"


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done: so many clients, a model of so many float32, so many rounds.

    The first round is told apart: processes and caches are cold in it.
    """

    clients: int
    elements: int
    rounds: int

    @property
    def model_bytes(self) -> int:
        """The model as float32."""
        return 4 * self.elements


@dataclass(frozen=True, slots=True)
class Found:
    """What was seen.

    Attributes:
        system: who did it.
        rounds_s: seconds from one model to the next; the first is that of the first round.
        link: bytes at one client's link in each of these rounds, up and down.
        cpu_s: seconds of processor time a round, of all processes, after the first round.
        memory: PSS in bytes by part after the first round: what serves and the clients, the
            median of looks; what trains, and `most`, the sum of all, at their highest, as a
            process that trains may be there for moments only.
    """

    system: str
    work: Work
    rounds_s: tuple[float, ...]
    link: tuple[Carried, ...]
    cpu_s: float
    memory: Mapping[str, int]

    @property
    def later_s(self) -> tuple[float, ...]:
        """The rounds after the first."""
        return self.rounds_s[1:]

    @property
    def median_s(self) -> float:
        """The median round after the first."""
        return statistics.median(self.later_s)

    @property
    def link_models(self) -> float:
        """Bytes at a client's link, both ways, in models; the median round after the first."""
        sums = [carried.up + carried.down for carried in self.link[1:]]
        return statistics.median(sums) / self.work.model_bytes


def moved_right(low: float, high: float, work: Work, step: float) -> bool:
    """Whether each element has moved by one step a round, but for what float32 rounds away."""
    goal = work.rounds * step
    return abs(low - goal) < step / 10 and abs(high - goal) < step / 10


def rounds_between(times_s: Sequence[float]) -> tuple[float, ...]:
    """Seconds between moments."""
    return tuple(round(b - a, 4) for a, b in pairwise(times_s))


def link_between(relay: Relay, times_s: Sequence[float]) -> tuple[Carried, ...]:
    """What a relay carried between moments."""
    counts = [relay.until(time_s) for time_s in times_s]
    return tuple(b - a for a, b in pairwise(counts))


class Looks:
    """Looks at processes every half second while it is entered, from when `begin` is called.

    Args:
        parts: the processes of each part; their descendants belong to it.
        training: a word in the command line of processes that are a part of their own.
    """

    def __init__(self, parts: Mapping[str, Sequence[int]], training: str) -> None:
        self._parts = parts
        self._training = training
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look_on, daemon=True)
        self._held: list[dict[str, int]] = []
        self._began_cpu_s = 0.0
        self.is_begun = False

    def begin(self) -> None:
        """The first round is over."""
        self.is_begun = True
        self._began_cpu_s = self._worked_s()
        self._thread.start()

    def cpu_s(self) -> float:
        """Processor time since `begin`."""
        return self._worked_s() - self._began_cpu_s

    def memory(self) -> dict[str, int]:
        """As `Found` has it."""
        self._ending.set()
        self._thread.join()
        told = {
            part: int(statistics.median(held[part] for held in self._held)) for part in self._parts
        }
        told[TRAINING] = max(held[TRAINING] for held in self._held)
        return told | {"most": max(sum(held.values()) for held in self._held)}

    def _look_on(self) -> None:
        while True:
            self._held.append(self._look())
            if self._ending.wait(LOOK_S):
                return

    def _look(self) -> dict[str, int]:
        held, trains = {}, set()
        for part, pids in self._parts.items():
            family = family_of(pids)
            mine = {pid for pid in family if self._training in command_of(pid)}
            trains |= mine
            held[part] = held_bytes(family - mine)
        return held | {TRAINING: held_bytes(trains)}

    def _worked_s(self) -> float:
        return worked_s(family_of(pid for pids in self._parts.values() for pid in pids))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ending.set()
