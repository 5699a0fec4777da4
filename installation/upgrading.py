"""A newer Flockwise in the place of an older one, and back again if it does not become ready.

The new environment is made beside the old one while the services run. The switch is a link, and
the unit files that the new version makes; both can be undone. State is never touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from config.failures import ExitCode, Failure
from installation.distribution import Source
from installation.environment import (
    Manifest,
    begin,
    current,
    discard,
    environments,
    finish,
    next_environment,
    read_manifest,
)
from installation.execution import carry_out
from installation.machine import Machine
from installation.places import CURRENT, UNITS, Service
from installation.plans import installed_services
from installation.steps import Link, Plan, WriteFile, cannot_write
from installation.supervised import TakeUpUnits, restart, settle


@dataclass(frozen=True, slots=True)
class Switch:
    """What is switched: the link to an environment, and the text of unit files."""

    path: str
    files: tuple[tuple[str, str], ...]

    def plan(self, units: tuple[str, ...]) -> Plan:
        """The steps to it."""
        written = tuple(WriteFile(path, text) for path, text in self.files)
        return (*written, Link(CURRENT, self.path), TakeUpUnits(units))


def upgrade(machine: Machine, source: Source, python: str, say: Callable[[str], None]) -> None:
    """Have all services of this machine run what `source` names.

    Raises Failure: UNAVAILABLE if it cannot be had, or if a service did not become ready with it;
    then the services run the old one again.
    """
    old_path, old = installed(machine)
    new_path = next_environment(machine)
    try:
        new = _make(machine, new_path, python, source, old, say)
    except OSError as error:
        raise cannot_write(error) from error
    if new is None:
        say(f"kept environment {old_path}: {old.name} {old.version} is what {source} gives")
        return
    services = installed_services(machine)
    running = tuple(one.unit for one in services if _is_wanted(machine, one))
    back = Switch(old_path, _unit_texts(machine, services))
    ahead = Switch(new_path, _remade(machine, new_path, back))
    try:
        _switch(machine, ahead, running, say)
    except (Failure, KeyboardInterrupt) as reason:
        say(f"going back to {old.name} {old.version}: {reason or 'interrupted'}")
        lost = _go_back(machine, back, running, say)
        discard(machine, new_path)
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"{new.name} {new.version} did not become ready, so {old.name} {old.version} is back"
            + (f", but {lost}" if lost else " and runs"),
        ) from reason
    for path in environments(machine):
        if path not in (old_path, new_path):
            discard(machine, path)
            say(f"removed environment {path}")


def installed(machine: Machine) -> tuple[str, Manifest]:
    """The environment in use and what is in it; raises Failure if there is none."""
    path = current(machine)
    manifest = read_manifest(machine, path) if path else None
    if path is None or manifest is None:
        raise Failure(
            ExitCode.UNAVAILABLE, "nothing is installed on this machine; use install instead"
        )
    return path, manifest


def _make(
    machine: Machine,
    path: str,
    python: str,
    source: Source,
    old: Manifest,
    say: Callable[[str], None],
) -> Manifest | None:
    """Make the new environment; None, and nothing made, if it would be what the old one is."""
    say(f"make environment {path} by {python}: {source} (this takes minutes)")
    try:
        wheel = begin(machine, path, python, source)
        if wheel.digest == old.digest:
            discard(machine, path)
            return None
        finish(machine, path, wheel, old.extras)
    except BaseException:
        discard(machine, path)
        raise
    say(f"made environment {path}: {wheel.name} {wheel.version}")
    return read_manifest(machine, path)


def _switch(
    machine: Machine, to: Switch, units: tuple[str, ...], say: Callable[[str], None]
) -> None:
    carry_out(to.plan(units), machine, say)
    for unit in units:
        restart(machine, unit)
        say(f"restarted {unit} (ready)")
    for unit in units:
        settle(machine, unit)


def _go_back(
    machine: Machine, back: Switch, units: tuple[str, ...], say: Callable[[str], None]
) -> str:
    """Undo a switch; what did not come back with it, or nothing."""
    carry_out(back.plan(units), machine, say)
    lost = ""
    for unit in units:
        try:
            restart(machine, unit)
            say(f"restarted {unit} (ready)")
        except Failure as failure:
            lost = str(failure)
    return lost


def _is_wanted(machine: Machine, service: Service) -> bool:
    """Whether it runs or tries to; what somebody has stopped stays so."""
    return machine.property_of(service.unit, "ActiveState") not in ("", "inactive")


def _unit_texts(machine: Machine, services: list[Service]) -> tuple[tuple[str, str], ...]:
    paths = {f"{UNITS}/{one.base_unit}" for one in services}
    paths |= {one.drop_in for one in services if one.drop_in is not None}
    return tuple((path, machine.at(path).read_text()) for path in sorted(paths))


def _remade(machine: Machine, path: str, held: Switch) -> tuple[tuple[str, str], ...]:
    """The unit files as the new version makes them; those that are held if it does not say."""
    python = str(machine.at(path) / "bin/python")
    texts = json.dumps([text for _, text in held.files]).encode()
    made = machine.run((python, "-m", "installation.units"), texts)
    try:
        files: dict[str, str] = json.loads(made.output)
    except ValueError:  # a version that cannot
        return held.files
    return tuple(sorted({**dict(held.files), **files}.items()))
