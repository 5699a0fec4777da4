"""The commands: install, upgrade and uninstall, for an agent, a coordinator, a broker, a gateway.

A gateway is a broker and a coordinator on one machine.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

from config.failures import ExitCode, Failure
from installation.brokers import wanted_broker
from installation.command_line import (
    InstallOptions,
    read_install,
    read_uninstall,
    read_upgrade,
)
from installation.configuration import read_configuration
from installation.distribution import read_source, running_source
from installation.environment import current
from installation.execution import carry_out, show
from installation.interpreter import find_python
from installation.machine import Machine, look, require_root_and_systemd
from installation.places import UNITS, Service
from installation.plans import Wanted, install_plan, installed_services, uninstall_plan
from installation.units import read_spec
from installation.upgrading import installed, upgrade

Subject: TypeAlias = Literal["agent", "coordinator", "broker", "gateway"]

_MEMORY_MAX = {"agent": "60%", "coordinator": "60%", "broker": "25%"}


def install(subject: Subject, argv: Sequence[str], machine: Machine | None = None) -> int:
    """Set services up; nothing is touched before the settings are known to be good."""
    prog = f"flockwise {subject} install"
    options = read_install(prog, argv, role=subject)
    machine = machine or look()
    try:
        require_root_and_systemd(machine)
    except Failure as failure:
        if not options.dry_run:
            raise
        print(f"note: {failure}")
    wanted = tuple(
        _wanted(machine, service, options, file) for service, file in _services(subject, options)
    )
    source = read_source(options.source) if options.source else running_source()
    is_first = current(machine) is None
    python = find_python(machine, options.python) if is_first else None
    plan = install_plan(machine, wanted, source, python)
    if options.dry_run:
        show(plan, machine, print)
        return ExitCode.OK
    os.umask(0o022)
    if carry_out(plan, machine, _say) == 0:
        _say("nothing was changed")
    if options.source and not is_first:
        _say(f"note: install keeps the environment; flockwise {subject} upgrade --from renews it")
    return ExitCode.OK


def renew(subject: Subject, argv: Sequence[str], machine: Machine | None = None) -> int:
    """Renew Flockwise for the services of this machine, or go back."""
    options = read_upgrade(f"flockwise {subject} upgrade", argv)
    machine = machine or look()
    require_root_and_systemd(machine)
    installed(machine)
    source = read_source(options.source) if options.source else running_source()
    python = find_python(machine, options.python)
    os.umask(0o022)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    upgrade(machine, source, python, _say)
    return ExitCode.OK


def uninstall(subject: Subject, argv: Sequence[str], machine: Machine | None = None) -> int:
    """Take services off."""
    options = read_uninstall(f"flockwise {subject} uninstall", argv, role=subject)
    machine = machine or look()
    if not options.dry_run:
        require_root_and_systemd(machine)
    services = tuple(Service(role, options.name) for role in _roles(subject))
    plan = uninstall_plan(machine, services, purge=options.purge)
    if options.dry_run:
        show(plan, machine, print)
        return ExitCode.OK
    if carry_out(plan, machine, _say) == 0:
        _say(f"nothing of {' and '.join(one.unit for one in services)} is on this machine")
    elif not options.purge:
        kept = [f"{one.configuration} and {one.state_link}" for one in services]
        _say(f"kept {', '.join(kept)}; --purge removes them")
    others = ", ".join(one.unit for one in installed_services(machine))
    if others:
        _say(f"kept what {others} needs")
    return ExitCode.OK


def _roles(subject: Subject) -> tuple[Literal["agent", "coordinator", "broker"], ...]:
    return ("broker", "coordinator") if subject == "gateway" else (subject,)


def _services(subject: Subject, options: InstallOptions) -> list[tuple[Service, Path | None]]:
    if subject == "gateway":
        return [
            (Service("broker"), options.broker_config),
            (Service("coordinator"), options.config),
        ]
    return [(Service(subject, options.name), options.config)]


def _wanted(
    machine: Machine, service: Service, options: InstallOptions, file: Path | None
) -> Wanted:
    configuration = read_configuration(machine, service, file)
    memory_max = options.memory_max or _memory_max(machine, service)
    if service.role == "broker":
        return wanted_broker(machine, service, configuration, memory_max)
    return Wanted(service, configuration, memory_max)


def _memory_max(machine: Machine, service: Service) -> str:
    """What it was given before, else the default."""
    path = machine.at(service.drop_in or f"{UNITS}/{service.unit}")
    spec = read_spec(path.read_text()) if path.is_file() else None
    return spec.memory_max if spec else _MEMORY_MAX[service.role]


def _say(line: str) -> None:
    # The terminal may go, as a connection does; what was begun goes on.
    with suppress(OSError):
        print(line, flush=True)


agent_install = partial(install, "agent")
agent_upgrade = partial(renew, "agent")
agent_uninstall = partial(uninstall, "agent")
coordinator_install = partial(install, "coordinator")
coordinator_upgrade = partial(renew, "coordinator")
coordinator_uninstall = partial(uninstall, "coordinator")
broker_install = partial(install, "broker")
broker_upgrade = partial(renew, "broker")
broker_uninstall = partial(uninstall, "broker")
gateway_install = partial(install, "gateway")
gateway_upgrade = partial(renew, "gateway")
gateway_uninstall = partial(uninstall, "gateway")
