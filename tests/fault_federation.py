"""A federation of real processes, each of which can be killed at any moment and started again.

A broker that forgets everything, a coordinator, and agents that make known vectors
(`tests/stub_worker.py`), each on a bad link of its own (`tests/bad_link.py`). Who is killed is
started again after its pause; who ends by itself is a fault.
"""

from __future__ import annotations

import os
import random
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from math import inf
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from broker.start import RunningBroker, start
from config.settings import BrokerSettings, Link
from tests.bad_link import BadLink, LinkFaults
from tests.fault_plan import BROKER, COORDINATOR, Plan
from tests.processes import Role, a_coordinator, an_agent
from tests.stub_worker import a_stub_chunk


class Party:
    """One process that is killed and started again, and what all its starts have logged."""

    def __init__(self, name: str, make: Callable[[], Role]) -> None:
        self.name = name
        self.kills = 0
        self.alive = False  # as far as it was not killed here
        self.back_s = inf
        self._make = make
        self._starts: list[Role] = []

    @property
    def role(self) -> Role:
        """Its present start, or the last one."""
        return self._starts[-1]

    def start(self) -> None:
        """Start it, for the first time or again."""
        self.back_s = inf
        self.alive = True
        self._starts.append(self._make())

    def kill(self, pause_s: float = inf) -> None:
        """End it by SIGKILL together with its worker; it is to come back after the pause."""
        pid = self.role.process.pid
        for victim in (pid, *_children(pid)):
            with suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.role.process.wait()
        self.kills += 1
        self.alive = False
        self.back_s = time.monotonic() + pause_s

    def told(self, text: str) -> list[dict[str, Any]]:
        """The log lines with this text, of all starts."""
        return [line for role in list(self._starts) for line in role.told(text)]

    def last_lines(self, count: int) -> list[str]:
        """The last lines that it wrote, of whichever start."""
        raw = [line for role in self._starts for line in role.raw]
        return raw[-count:]

    def faults(self) -> Iterator[str]:
        """What must not be in a log: errors, and exceptions that nobody expected."""
        for role in self._starts:
            yield from (str(line) for line in role.lines if line["level"] == "error")
            yield from (line for line in role.raw if line.startswith("Exception in thread"))

    def close(self) -> None:
        """End what is left of it."""
        for role in self._starts:
            role.__exit__(None, None, None)


class Federation:
    """All parties; leaving its context ends them."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self.plan = plan
        self.directory = directory
        self.state = directory / COORDINATOR
        self.broker_kills = 0
        self.links: dict[str, BadLink] = {}
        self.parties: dict[str, Party] = {}
        self._broker_back_s = inf
        self._broker: RunningBroker | None = None
        self._closing = ExitStack()
        self._port = _quiet_port()

    def __enter__(self) -> Self:
        with ExitStack() as closing:
            self._closing = closing
            closing.callback(self._end_broker)
            self._start_broker()
            chance = random.Random(f"{self.plan.seed} links")
            for name in (COORDINATOR, *self.plan.devices):
                share = self.plan.agents if name == COORDINATOR else 1
                faults = _bad(chance, share) if self.plan.bad_links else LinkFaults()
                link = BadLink(self._port, chance.randrange(2**31), faults)
                self.links[name] = closing.enter_context(link)
                party = Party(name, self._maker(name))
                self.parties[name] = party
                closing.callback(party.close)
                party.start()
            self._closing = closing.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.close()

    @property
    def coordinator(self) -> Party:
        """The coordinator."""
        return self.parties[COORDINATOR]

    @property
    def agents(self) -> list[Party]:
        """The agents."""
        return [self.parties[device] for device in self.plan.devices]

    def outbox(self, device: str) -> Path:
        """Where a device keeps its updates."""
        return self.directory / device / "outbox"

    def alive(self, names: Iterable[str]) -> bool:
        """Whether all of these run."""
        return all(
            self._broker is not None if name == BROKER else self.parties[name].alive
            for name in names
        )

    def kill(self, name: str, pause_s: float = inf) -> None:
        """Kill a party; it comes back after the pause, by `tend`, or when it is started."""
        if name != BROKER:
            self.parties[name].kill(pause_s)
            return
        assert self._broker is not None
        os.kill(self._broker.pid, signal.SIGKILL)
        self._end_broker()
        self.broker_kills += 1
        self._broker_back_s = time.monotonic() + pause_s

    def restart(self, name: str) -> None:
        """Start a party that was killed."""
        if name == BROKER:
            self._start_broker()
        else:
            self.parties[name].start()

    def tend(self) -> None:
        """Start those again whose pause is over; nobody may have ended by itself."""
        now_s = time.monotonic()
        if now_s >= self._broker_back_s:
            self._start_broker()
        for party in self.parties.values():
            if now_s >= party.back_s:
                party.start()
            elif party.alive and (code := party.role.process.poll()) is not None:
                raise AssertionError(
                    f"{party.name} ended by itself with {code}: {party.last_lines(8)}"
                )
        assert self._broker is None or self._broker.alive, "the broker ended by itself"

    def stop(self) -> dict[str, int]:
        """Ask everyone to stop, once all are up; the exit codes."""
        for party in self.parties.values():
            party.role.wait_for("link up")
        for party in self.parties.values():
            party.role.process.terminate()
        # A second signal in the last moment of a process would end it by its default.
        return {party.name: party.role.end() for party in self.parties.values()}

    def carried_bytes(self) -> tuple[int, int]:
        """Bytes that the agents' links carried, up and down, with all that MQTT adds."""
        links = [self.links[device] for device in self.plan.devices]
        return sum(link.bytes_up for link in links), sum(link.bytes_down for link in links)

    def _maker(self, name: str) -> Callable[[], Role]:
        plan, broker = self.plan, self._broker
        assert broker is not None
        common: dict[str, Any] = {
            "link": Link(host="127.0.0.1", port=self.links[name].port, **plan.link),
            "transfer": {"chunk_bytes": 2048, **plan.transfer},
        }
        if name == COORDINATOR:
            training = {"model": "stub", "codec": "float32"}
            whole = {**common, "training": training, "keep_versions": 100_000, **plan.rule}
            return lambda: a_coordinator(broker, self.state, stub=True, **whole)
        chunk = a_stub_chunk(self.directory / f"{name}.json", plan.updates_each, plan.train_s)
        settings = {**common, **plan.agent_settings}
        state = self.directory / name
        return lambda: an_agent(broker, state, chunk, name, stub=True, **settings)

    def _start_broker(self) -> None:
        settings = BrokerSettings(kind=self.plan.broker_kind, port=self._port, insecure=True)
        self._broker = start(settings, self.directory / BROKER)
        self._broker_back_s = inf

    def _end_broker(self) -> None:
        if self._broker is not None:
            self._broker.stop()
            self._broker = None


def _bad(chance: random.Random, share: int) -> LinkFaults:
    """What one link does by itself: each its own delay, cuts in mid-transfer, some stalls.

    The coordinator's carries what all the others do together: `share` times as much between cuts.
    """
    return LinkFaults(
        delay_s=chance.uniform(0.0, 0.03),
        cut_at_bytes=(3_000, share * chance.randint(80_000, 400_000)),
        stall_every_s=(chance.uniform(5, 15), chance.uniform(15, 40)),
        stall_for_s=(0.3, 3.0),
    )


def _quiet_port() -> int:
    """A free port that no outgoing connection is given while the broker is away."""
    while True:
        port = random.randint(15_000, 29_000)  # by no seed: two runs may be under way at once
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def _children(pid: int) -> tuple[int, ...]:
    """The children of a process, where the system tells; elsewhere a worker ends with its stdin."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError, ValueError, IndexError):
            # After the name in parentheses, which may hold anything: state, then the parent.
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            if parent == pid:
                found.append(int(path.parent.name))
    return tuple(found)
