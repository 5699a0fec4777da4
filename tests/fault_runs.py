"""Runs of a federation with faults, from its start until it is at rest and checked."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.fault_federation import Federation, Party
from tests.fault_plan import BROKER, COORDINATOR, Plan, Strike
from tests.fault_verdict import accepted_updates, at_rest, check, waiting, who_waits

POLL_S = 0.05
REST_EVERY_S = 0.5
TELL_EVERY_S = 10.0
QUIET_S = 5.0
QUICK_LINK = {"backoff_base_s": 0.2, "backoff_cap_s": 1.0}
QUICK_TRANSFER = {"silence_s": 1.0, "patience_s": 0.5}

Tell = Callable[[str], None]


def silent(_line: str) -> None:
    """Tell nobody."""


def with_kills(
    plan: Plan,
    strikes: Sequence[Strike],
    directory: Path,
    idle_limit_s: float = 60.0,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Run until every update is in a version, while the strikes fall; check, and give figures.

    Raises:
        AssertionError: what must be true is not; or nothing has moved for `idle_limit_s`.
    """
    with Federation(plan, directory) as federation:
        began_s = time.monotonic()
        to_rest(federation, strikes, idle_limit_s, tell)
        duration_s = time.monotonic() - began_s
        codes = federation.stop()
        assert not any(codes.values()), f"not all of them stop in an orderly way: {codes}"
        found = check(federation)
        return {**found, **_figures(federation), "seconds": round(duration_s, 1)}


def to_rest(
    federation: Federation,
    strikes: Sequence[Strike] = (),
    idle_limit_s: float = 60.0,
    tell: Tell = silent,
) -> None:
    """Let the strikes fall and the dead come back, until every update is in a version.

    Raises:
        AssertionError: nothing has moved for `idle_limit_s`; with who waits for what.
    """
    run = _Run(federation, strikes, idle_limit_s, tell)
    while not run.is_over():
        run.go_on()
        time.sleep(POLL_S)


class _Run:
    """What has fallen and moved so far."""

    def __init__(
        self, federation: Federation, strikes: Sequence[Strike], idle_limit_s: float, tell: Tell
    ) -> None:
        self._federation = federation
        self._strikes = list(strikes)
        self._idle_limit_s = idle_limit_s
        self._tell = tell
        self._reached_s: float | None = None
        self._accepted = 0
        self._moved_s = self._told_s = self._looked_s = time.monotonic()

    def go_on(self) -> None:
        self._federation.tend()
        self._strike()
        self._watch()

    def is_over(self) -> bool:
        if self._strikes or time.monotonic() - self._looked_s < REST_EVERY_S:
            return False
        self._looked_s = time.monotonic()
        return self._federation.alive(self._federation.parties) and at_rest(self._federation)

    def _strike(self) -> None:
        if not self._strikes:
            return
        strike, now_s = self._strikes[0], time.monotonic()
        if self._accepted < strike.share * self._federation.plan.updates:
            return
        self._reached_s = self._reached_s or now_s
        late = now_s >= self._reached_s + strike.delay_s
        if not late or not self._federation.alive(strike.names):
            return
        for name, pause_s in strike.victims:
            self._federation.kill(name, pause_s)
        del self._strikes[0]
        self._reached_s = None
        self._moved_s = now_s

    def _watch(self) -> None:
        now_s = time.monotonic()
        # From the log, as a look into the ledger would be one more party at its locks; from the
        # ledger where nothing moves, as a line may have died with its coordinator.
        if now_s - self._moved_s > QUIET_S:
            accepted = accepted_updates(self._federation)
        else:
            told = self._federation.coordinator.told("update accepted")
            accepted = len({(line["device"], line["sequence"]) for line in told})
        if accepted > self._accepted:
            self._accepted, self._moved_s = accepted, now_s
        if now_s - self._moved_s > self._idle_limit_s:
            raise AssertionError(who_waits(self._federation))
        if now_s - self._told_s > TELL_EVERY_S:
            self._told_s = now_s
            total = self._federation.plan.updates
            self._tell(f"{self._accepted} of {total} updates, {len(self._strikes)} strikes to come")


def _figures(federation: Federation) -> dict[str, Any]:
    up, down = federation.carried_bytes()
    useful_up = federation.plan.updates * _update_bytes(federation)
    # Once for each device and version: after a kill it is said again of what is held already.
    # Version 0 is nothing but zeros, as is a new file: nobody fetches it.
    fetched = {
        (agent.name, line["version"]): line["bytes"]
        for agent in federation.agents
        for line in agent.told("version fetched")
        if line["version"]
    }
    return {
        "kills": {
            "agents": sum(agent.kills for agent in federation.agents),
            "coordinator": federation.coordinator.kills,
            "broker": federation.broker_kills,
        },
        "cuts": sum(link.cuts for link in federation.links.values()),
        "connections": sum(link.connections for link in federation.links.values()),
        "bytes_up": up,
        "useful_bytes_up": useful_up,
        "bytes_down": down,
        "useful_bytes_down": sum(fetched.values()),
    }


def _update_bytes(federation: Federation) -> int:
    lines = [line for agent in federation.agents for line in agent.told("update in outbox")]
    return int(lines[0]["bytes"])


def without_coordinator(
    plan: Plan, away_s: float, directory: Path, idle_limit_s: float = 60.0, tell: Tell = silent
) -> dict[str, Any]:
    """Take the coordinator away in the middle; see what waits, then that all is delivered."""
    with Federation(plan, directory) as federation:
        for agent in federation.agents:
            agent.role.wait_for("update in outbox")
        federation.kill(COORDINATOR)
        gone_s = time.monotonic()
        most: dict[str, int] = dict.fromkeys(plan.devices, 0)
        while time.monotonic() < gone_s + away_s:
            federation.tend()
            for device in plan.devices:
                most[device] = max(most[device], len(waiting(federation, device)))
            time.sleep(0.2)
        made = sum(len(agent.told("update in outbox")) for agent in federation.agents)
        tell(f"the coordinator was away for {away_s:g} s; in the outboxes: {list(most.values())}")
        federation.restart(COORDINATOR)
        back_s = time.monotonic()
        to_rest(federation, (), idle_limit_s, tell)
        rest_s = time.monotonic() - back_s
        codes = federation.stop()
        assert not any(codes.values()), f"not all of them stop in an orderly way: {codes}"
        found = check(federation)
        waited = {"away_s": away_s, "made_before_return": made, "in_outboxes": most}
        return {**found, **waited, "seconds_to_rest": round(rest_s, 1)}


def after_broker_kills(
    plan: Plan, repetitions: int, away_s: float, directory: Path, tell: Tell = silent
) -> dict[str, Any]:
    """Kill the broker, start it empty; how long until all are back, and until a new version."""
    rows: list[tuple[float, float]] = []
    with Federation(plan, directory) as federation:
        for _ in range(repetitions):
            _await(federation, lambda since_s: _all_back(federation, since_s), 0.0)
            time.sleep(8)  # a link that has held for a while begins its backoff anew
            federation.kill(BROKER)
            time.sleep(away_s)
            back_s = time.time()
            federation.restart(BROKER)
            linked_s = _await(federation, lambda s: _all_back(federation, s), back_s)
            version_s = _await(federation, lambda s: _new_version(federation, s), back_s)
            rows.append((linked_s - back_s, version_s - back_s))
            tell(f"all back after {rows[-1][0]:.2f} s, a new version after {rows[-1][1]:.2f} s")
    return {
        "away_s": away_s,
        "all_back_s": _spread([row[0] for row in rows]),
        "new_version_s": _spread([row[1] for row in rows]),
    }


def _all_back(federation: Federation, since_s: float) -> float | None:
    """When the last agent had its link; None while one has not."""
    times = [_first_since(agent, "link up", since_s) for agent in federation.agents]
    return None if None in times else max(time for time in times if time is not None)


def _new_version(federation: Federation, since_s: float) -> float | None:
    return _first_since(federation.coordinator, "version made", since_s)


def _first_since(party: Party, text: str, since_s: float) -> float | None:
    times = (float(line["time"]) for line in party.told(text))
    return next((time for time in times if time >= since_s), None)


def _await(federation: Federation, look: Callable[[float], float | None], since_s: float) -> float:
    end_s = time.monotonic() + 300
    while (found := look(since_s)) is None:
        federation.tend()
        assert time.monotonic() < end_s, who_waits(federation)
        time.sleep(POLL_S)
    return found


def _spread(seconds: list[float]) -> dict[str, Any]:
    return {
        "median": round(statistics.median(seconds), 2),
        "least": round(min(seconds), 2),
        "most": round(max(seconds), 2),
        "n": len(seconds),
    }
