"""One federation of forked processes, one of which is killed at one point and started again.

Whoever calls this has no threads and has imported the roles already (`tests/crash_runs.py`), so
that a process begins in milliseconds.
"""

from __future__ import annotations

import json
import logging
import os
import random
import shutil
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.failures import ExitCode, Failure
from tests import crashing_role
from tests.crash_parties import be_agent, be_coordinator, lay_out
from tests.crash_scenarios import SCENARIOS, Scenario
from tests.crash_verdict import check, is_at_rest
from tests.crashing_role import Crash
from tests.power_loss import Volatile, lose

LIMIT_S = 60.0
QUIET_S = 0.04


@dataclass(slots=True)
class Party:
    """One role: its process, if it runs, and the crashes that it has before it."""

    name: str
    role: str
    start: Callable[[], int]
    planned: list[Crash]
    starts: int = 0
    pid: int | None = None


@dataclass(slots=True)
class Run:
    """A scenario with one crash in it, or none.

    Attributes:
        lossy: whether what was not forced to disk is lost by the crash, and not the process alone.
    """

    directory: Path
    port: int
    scenario: str
    crash: Crash | None = None
    lossy: bool = False
    parties: list[Party] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    lost: int = 0

    @property
    def story(self) -> Scenario:
        """What happens besides."""
        return SCENARIOS[self.scenario]

    @property
    def coordinator(self) -> Path:
        """State directory of the coordinator."""
        return self.directory / "coordinator"

    def device(self, name: str) -> Path:
        """State directory of an agent."""
        return self.directory / f"agent-{name}"

    def go(self) -> dict[str, Any]:
        """Run it to its end and check what came of it; whether the crash came, and the counts.

        Raises:
            AssertionError: something is lost, doubled, left over, or does not come to an end.
        """
        self._prepare()
        try:
            self._until(self._is_at_rest)
            for words in self.story.running:
                self._command(words)
            self._stop_all()
            for words in self.story.after:
                self._command(words)
            check(self)
        finally:
            for party in self.parties:
                if party.pid is not None:
                    os.kill(party.pid, signal.SIGKILL)
                    os.waitpid(party.pid, 0)
        hit = self.crash is not None and all(self.crash not in p.planned for p in self.parties)
        return {"hit": hit, "lost": self.lost, "counts": self._counts()}

    def logs(self, lines: int = 12) -> str:
        """The last lines of each process."""
        told = []
        for path in sorted(self.directory.glob("*.log")):
            told += [f"--- {path.name}", *path.read_text(errors="replace").splitlines()[-lines:]]
        return "\n".join([*self.ends, *told])

    def _prepare(self) -> None:
        lay_out(self)
        planned = [*self.story.first, *([self.crash] if self.crash else [])]
        mine = {role: [c for c in planned if c.role == role] for role in ("coordinator", "agent")}
        self.parties = [
            Party("coordinator", "coordinator", lambda: be_coordinator(self), mine["coordinator"]),
            Party("a", "agent", lambda: be_agent(self, "a"), mine["agent"]),
            Party("b", "agent", lambda: be_agent(self, "b"), []),
        ]
        for party in self.parties:
            self._start(party)

    # Its processes

    def _start(self, party: Party) -> None:
        party.starts += 1
        name = f"{party.name}.{party.starts}"
        armed = (*self.story.always, *_next(party.planned))
        party.pid = os.fork()
        if party.pid:
            return
        code = 1
        try:
            log = os.open(self.directory / f"{name}.log", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(log, 1)
            os.dup2(log, 2)
            random.seed()
            if self.story.supervised:
                runtime = self.directory / f"runtime-{party.name}"
                runtime.mkdir(exist_ok=True)
                os.environ["RUNTIME_DIRECTORY"] = str(runtime)
            crashing_role.arm(
                party.role,
                [crash for crash in armed if crash.role == party.role],
                self.directory / f"{party.role}.{name}.counts",
                Volatile(self.directory) if self.lossy and armed else None,
            )
            try:
                code = party.start()
            except Failure as failure:
                print(f"flockwise: {failure}", flush=True)
                code = failure.code
            crashing_role.tell_counts()
        except BaseException:
            logging.exception("ended by an exception")
        finally:
            os._exit(code)

    def _tend(self, stopping: bool = False) -> None:
        """Start again who was killed as planned; nobody else may end."""
        for party in self.parties:
            if party.pid is None:
                continue
            pid, status = os.waitpid(party.pid, os.WNOHANG)
            if not pid:
                continue
            party.pid = None
            code = os.waitstatus_to_exitcode(status)
            self.ends.append(f"{party.name}.{party.starts} ended with {code}")
            if stopping and code == ExitCode.OK:
                continue
            planned = _next(party.planned)
            killed = code == -signal.SIGKILL and any(crash.kills for crash in planned)
            failed = code == ExitCode.CANNOT_WRITE and planned and not planned[0].kills
            assert killed or failed, f"{party.name} ended with {code}"
            del party.planned[: len(planned) if killed else 1]
            if killed and self.lossy and self.crash in planned:
                self.lost += lose(self.directory)
            if self.story.wiped and party.starts == 1 and party.role == "agent":
                shutil.rmtree(self.device(party.name))
            self._start(party)

    def _until(self, done: Callable[[], bool], stopping: bool = False) -> None:
        end_s = time.monotonic() + LIMIT_S
        while not done():
            assert time.monotonic() < end_s, "it does not come to rest"
            self._tend(stopping)
            time.sleep(0.005)

    def _is_at_rest(self) -> bool:
        now_s = time.time()
        if any(p.stat().st_mtime > now_s - QUIET_S for p in self.directory.glob("*.log")):
            return False
        if not all(self._is_linked(party) for party in self.parties):
            return False
        return is_at_rest(self)

    def _is_linked(self, party: Party) -> bool:
        log = self.directory / f"{party.name}.{party.starts}.log"
        return log.exists() and "link up" in log.read_text(errors="replace")

    def _stop_all(self) -> None:
        """Ask all to end; who is killed in that is started and asked again."""
        while running := [party for party in self.parties if party.pid is not None]:
            self._until(self._is_at_rest_where_running)
            for party in running:
                assert party.pid is not None
                os.kill(party.pid, signal.SIGTERM)
            asked = {party.pid for party in running}
            self._until(lambda asked=asked: not asked & {p.pid for p in self.parties}, True)  # type: ignore[misc]

    def _is_at_rest_where_running(self) -> bool:
        return all(self._is_linked(p) for p in self.parties if p.pid is not None)

    def _command(self, words: Sequence[str]) -> None:
        """Run a command of the coordinator, again if it is killed."""
        from coordinator import inspection, quarantining, replaying  # noqa: PLC0415

        place = {"replayed": str(self.directory / "replayed.safetensors")}
        command, *rest = [place.get(word, word) for word in words]
        main = {
            "replay": replaying.main,
            "inspect": inspection.main,
            "quarantine": quarantining.quarantine,
        }[command]
        argv = ["--state-dir", str(self.coordinator), *rest]
        former = self.parties[0]
        party = Party(command, "coordinator", lambda: main(argv), former.planned)
        self.parties.append(party)
        self._start(party)
        self._until(lambda: party.pid is None, stopping=True)

    def _counts(self) -> dict[str, int]:
        """For each point how often one process came to it at most."""
        most: dict[str, int] = {}
        for path in self.directory.glob("*.counts"):
            for point, count in json.loads(path.read_text()).items():
                most[point] = max(count, most.get(point, 0))
        return most


def _next(planned: list[Crash]) -> list[Crash]:
    """What is before one process: up to what kills it."""
    for index, crash in enumerate(planned):
        if crash.kills:
            return planned[: index + 1]
    return planned
