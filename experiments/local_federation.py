"""A federation of real processes on this machine: started, watched, and ended in good order.

A device that dies does not end it, and a broker that dies is replaced, for the ends remember all
that matters. Without its coordinator, or without any device, there is nothing to wait for.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self, TypeAlias

from broker.start import RunningBroker, choose
from broker.start import start as start_broker
from config.failures import ExitCode, Failure
from config.settings import AgentSettings, BrokerSettings, CoordinatorSettings, DemoSettings
from experiments import recipes
from experiments.children import Children, flockwise_command
from experiments.display import Display
from experiments.following import follow
from experiments.interruption import Interruption
from experiments.membership import give_memberships
from experiments.preparation import Prepared
from experiments.roles import FEDERATION, agent_settings, coordinator_settings, link_to
from experiments.run_directory import RunDirectory
from experiments.scoreboard import COORDINATOR, Ended, Run, Scoreboard, opening
from experiments.settings_file import write_settings
from experiments.summary import Ending

Verdict: TypeAlias = tuple[Ending, str | None]

TICK_S = 0.2
BROKER_RESTARTS = 3
FINISHED: Verdict = ("finished", None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a run ended, and the last scoreboard."""

    ending: Ending
    problem: str | None
    board: Scoreboard


class LocalFederation:
    """Broker, coordinator and agents; entering its context starts the broker, leaving it ends all.

    Raises:
        Failure: from the start of the broker or of a process.
    """

    def __init__(self, settings: DemoSettings, run: RunDirectory, data: Prepared) -> None:
        self._settings = settings
        self._run = run
        self._data = data
        self._children = Children()
        self._restarts = 0
        self._has_tls = choose(settings.broker).kind == "mosquitto"
        give_memberships(run, FEDERATION, data.examples, tls=self._has_tls)
        self._broker = self._start_broker(port=0)

    @property
    def broker(self) -> RunningBroker:
        """The broker that runs now."""
        return self._broker

    def pid(self, name: str) -> int:
        """The process id of the coordinator or of a device's agent."""
        return self._children.pid(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._children.close()
        self._broker.stop()

    def go(self, display: Display, asked: Interruption) -> Outcome:
        """Start coordinator and agents, show what they do, and end them when it is over."""
        self._board = opening(self._facts())
        with display:
            verdict = self._watch(display, asked)
            killed = self._children.stop(in_a_hurry=lambda: asked.count > 1)
            self._take_last_words()
            display.close(self._board)
            if killed:
                display.say(f"had to be killed: {', '.join(killed)}")
        return Outcome(*verdict, self._board)

    def _watch(self, display: Display, asked: Interruption) -> Verdict:
        try:
            self._start_roles()
            while True:
                time.sleep(TICK_S)
                verdict = self._look(display)
                display.show(self._board)
                if verdict is not None:
                    return verdict
                if asked.count:
                    return "interrupted", None
        except Failure as failure:
            return "failed", failure.message

    def _facts(self) -> Run:
        settings, data = self._settings, self._data
        return Run(
            started_s=time.time(),
            strategy=settings.strategy,
            model=recipes.training_plan(settings).model,
            examples=data.examples,
            test_examples=data.test_examples,
            source=data.source,
            generated=data.generated,
            versions=recipes.versions(settings),
            broker=self._broker.title,
            directory=self._run.path,
            least_level=settings.log_level,
        )

    def _start_broker(self, port: int) -> RunningBroker:
        settings = BrokerSettings(
            kind=self._settings.broker,
            host="127.0.0.1",
            port=port,
            authority=self._run.authority if self._has_tls else None,
            insecure=not self._has_tls,
        )
        self._run.broker.mkdir(exist_ok=True)
        return start_broker(settings, self._run.broker)

    def _start_roles(self) -> None:
        link = link_to(self._broker.host, self._broker.port)
        self._start_role(COORDINATOR, coordinator_settings(self._settings, link, self._run))
        *_, last = self._data.examples
        for device in self._data.examples:
            slow = device == last
            self._start_role(
                device, agent_settings(self._settings, link, self._run, device, slow=slow)
            )

    def _start_role(self, name: str, settings: CoordinatorSettings | AgentSettings) -> None:
        file, role = self._run.settings_of(name), "coordinator" if name == COORDINATOR else "agent"
        heading = f"{name} of a demo; by hand: flockwise {role} run --config {file}"
        write_settings(file, settings, heading)
        command = flockwise_command([role, "run", "--config", str(file)])
        self._children.start(name, command, self._run.log(name))

    def _look(self, display: Display) -> Verdict | None:
        """Take in what has happened; how it ended, once it has."""
        verdict: Verdict | None = None
        for event in self._children.poll():
            if isinstance(event, Ended) and event.source == COORDINATOR:
                verdict = self._without_coordinator(event)
                if verdict == FINISHED:
                    continue
            self._board = follow(self._board, event)
            if isinstance(event, Ended):
                display.say(self._obituary(event))
        if verdict is None and not self._broker.alive:
            self._replace_broker(display)
        return verdict or self._hopeless()

    def _without_coordinator(self, end: Ended) -> Verdict:
        """The coordinator ends by itself when all is done; before that, nobody can go on."""
        made = self._board.newest.version if self._board.newest else -1
        if end.status == 0 and made >= self._board.run.versions:
            return FINISHED
        return "failed", f"the coordinator {end.how}"

    def _hopeless(self) -> Verdict | None:
        """Whether nothing can come any more, and why."""
        board = self._board
        gone = [device for device, row in board.devices.items() if row.ended is not None]
        left = len(board.devices) - len(gone)
        needed = recipes.aggregation(self._settings).wait_for
        if gone and not left:
            return "failed", "no device is left"
        if board.newest is None and left < needed:
            return "failed", f"{', '.join(gone)} ended before all devices had come together"
        return None

    def _replace_broker(self, display: Display) -> None:
        """Start another broker on the same port.

        Raises:
            Failure: it does not start, or this has happened too often.
        """
        log = self._broker.log_file
        if self._restarts >= BROKER_RESTARTS:
            raise Failure(
                ExitCode.FAILURE, f"the broker ended {self._restarts + 1} times; see {log}"
            )
        self._restarts += 1
        display.say(
            f"The broker ended ({log}); starting another one on port {self._broker.port}."
            " Nothing is lost: coordinator and devices remember."
        )
        self._broker.stop()
        self._broker = self._start_broker(self._broker.port)

    def _obituary(self, event: Ended) -> str:
        """What people should know of the end of a process: how, its last lines, what is kept."""
        name, home = event.source, self._run.home(event.source)
        goes_on = "" if name == COORDINATOR else "; the others go on"
        lines = [f"{name} {event.how}{goes_on}. The end of its log, {self._run.log(name)}:"]
        lines += [f"    {line}" for line in event.last_lines or ("(nothing)",)]
        if name == COORDINATOR:
            lines.append(f"  Kept in {home}: the versions made so far, the ledger, the reports.")
        else:
            file = self._run.settings_of(name)
            lines.append(f"  Kept in {home}: its identity and the updates not yet delivered.")
            lines.append(f"  To start it again by hand: flockwise agent run --config {file}")
        return "\n".join(lines)

    def _take_last_words(self) -> None:
        """Take in what the processes logged while they were ended; warnings of that are no news."""
        before = self._board
        for event in self._children.poll():
            self._board = follow(self._board, event)
        self._board = replace(self._board, notices=before.notices, noticed=before.noticed)
