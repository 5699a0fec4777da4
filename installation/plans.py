"""The plans: what it takes to have services on a machine, and to have them off it again.

A plan is data, made by looking only. What is done already is found out step by step when it is
carried out, so that the same plan serves a machine with nothing on it and one with all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

from installation.configuration import Configuration
from installation.distribution import Source
from installation.environment import AddToEnvironment, MakeEnvironment, current, next_environment
from installation.keys import key_steps
from installation.machine import Machine
from installation.membership import FOLDER, CopyMembership
from installation.places import (
    COMMAND,
    CONFIGURATION,
    CREDENTIALS,
    CURRENT,
    ENVIRONMENTS,
    MOSQUITTO_CONFIGURATION,
    PROGRAM,
    STATES,
    TEMPLATE,
    UNITS,
    Service,
)
from installation.steps import CopyFile, Link, MakeDirectory, Plan, Remove, Step, WriteFile
from installation.supervised import Disable, Enable, Start, Stop, TakeUpUnits
from installation.units import UnitSpec, read_spec, unit_files

_PRIVATE_STATES = "/var/lib/private/flockwise"
_PRIVATE_RUNTIME = "/run/private/flockwise"


@dataclass(frozen=True, slots=True)
class Wanted:
    """One service that is wanted on the machine.

    Attributes:
        memory_max: of all its processes, as systemd spells it.
        mosquitto: the program and its configuration, where the broker is one.
        notifies: whether that program tells systemd when it is ready.
    """

    service: Service
    configuration: Configuration
    memory_max: str
    mosquitto: tuple[str, str] | None = None
    notifies: bool = False

    @property
    def extra(self) -> str | None:
        """The extra of the distribution that it needs."""
        if getattr(self.configuration.settings, "authority", None) is not None:
            return None  # mosquitto, started by our own process
        return None if self.mosquitto else self.service.role


def install_plan(
    machine: Machine, wanted: tuple[Wanted, ...], source: Source, python: str | None
) -> Plan:
    """What it takes to have these services run.

    Args:
        python: makes the environment, if there is none yet.
    """
    extras = tuple(sorted({one.extra for one in wanted if one.extra is not None}))
    steps: list[Step] = [*_environment_steps(machine, source, python, extras)]
    steps.append(Link(COMMAND, PROGRAM, ours=False))
    steps.append(MakeDirectory(CONFIGURATION, 0o755))
    for one in wanted:
        steps += _service_steps(machine, one)
    units = tuple(one.service.unit for one in wanted)
    steps.append(TakeUpUnits(units))
    steps += [Enable(unit) for unit in units]
    steps += [Start(unit) for unit in units]
    return tuple(steps)


def uninstall_plan(machine: Machine, services: tuple[Service, ...], *, purge: bool) -> Plan:
    """What it takes to have these services off the machine; `purge`: with all that they kept."""
    steps: list[Step] = []
    for service in services:
        steps += [Stop(service.unit), Disable(service.unit)]
        steps.append(Remove(service.drop_in or f"{UNITS}/{service.unit}"))
        # What somebody wrote with `systemctl edit` is there too.
        steps.append(Remove(f"{UNITS}/{service.unit}.d", if_empty=not purge))
    left = [one for one in installed_services(machine) if one not in services]
    if not any(one.name for one in left):
        steps.append(Remove(f"{UNITS}/{TEMPLATE}"))
    steps.append(TakeUpUnits(tuple(service.unit for service in services)))
    for service in services:
        steps.append(Remove(f"/run/private/{service.state_name}"))
        steps.append(Remove(f"/run/{service.state_name}"))
        if purge:
            steps += _purge_steps(service)
    steps += [Remove(path, if_empty=True) for path in (_PRIVATE_RUNTIME, "/run/flockwise")]
    if purge:
        shared = (CREDENTIALS, CONFIGURATION, _PRIVATE_STATES, STATES)
        steps += [Remove(path, if_empty=True) for path in shared]
    if not left:
        steps += [Remove(COMMAND, if_link_to=PROGRAM), Remove(ENVIRONMENTS)]
    return tuple(steps)


def installed_services(machine: Machine) -> list[Service]:
    """The services whose units are on this machine; the broker first, as others need it."""
    place = machine.at(UNITS)
    found = [
        Service(role)
        for role in ("broker", "coordinator", "agent")
        if (place / f"flockwise-{role}.service").is_file()
    ]
    named = sorted(place.glob("flockwise-agent@*.service.d/flockwise.conf"))
    names = [path.parent.name.partition("@")[2].removesuffix(".service.d") for path in named]
    return [*found, *(Service("agent", name) for name in names)]


def _environment_steps(
    machine: Machine, source: Source, python: str | None, extras: tuple[str, ...]
) -> Plan:
    path = current(machine)
    if path is not None:
        return (AddToEnvironment(path, extras),)
    path = next_environment(machine)
    extras = tuple(sorted({*extras, *_installed_extras(machine)}))
    return (MakeEnvironment(path, python or "python3", source, extras), Link(CURRENT, path))


def _installed_extras(machine: Machine) -> set[str]:
    """What the services need that are here already, though their environment is gone."""
    extras: set[str] = set()
    for service in installed_services(machine):
        path = machine.at(service.drop_in or f"{UNITS}/{service.unit}")
        spec = read_spec(path.read_text())
        if spec is not None and spec.mosquitto is None:
            extras.add(spec.role)
    return extras


def _service_steps(machine: Machine, wanted: Wanted) -> list[Step]:
    service, configuration = wanted.service, wanted.configuration
    steps: list[Step] = []
    if configuration.data is not None or configuration.membership is not None:
        # As systemd would make them; what it finds there becomes the service's at its first start.
        steps.append(MakeDirectory("/var/lib/private", 0o700))
        steps.append(MakeDirectory(_PRIVATE_STATES, 0o755))
        steps.append(MakeDirectory(service.state, 0o700))
    if configuration.data is not None and service.data is not None:
        steps.append(CopyFile(configuration.data, service.data))
    if configuration.membership is not None:
        steps.append(CopyMembership(configuration.membership, f"{service.state}/{FOLDER}"))
    steps.append(WriteFile(service.configuration, configuration.text, keeps=True))
    if wanted.mosquitto is not None:
        steps.append(WriteFile(MOSQUITTO_CONFIGURATION, wanted.mosquitto[1]))
    keys, plain, encrypted = key_steps(machine, service.credentials, configuration.credentials)
    steps += keys
    spec = UnitSpec(
        role=service.role,
        name=service.name,
        memory_max=wanted.memory_max,
        systemd=machine.systemd,
        credentials=plain,
        encrypted=encrypted,
        has_data=configuration.data is not None,
        mosquitto=wanted.mosquitto[0] if wanted.mosquitto else None,
        notifies=wanted.notifies,
    )
    steps += [WriteFile(path, text) for path, text in unit_files(spec).items()]
    return steps


def _purge_steps(service: Service) -> list[Step]:
    steps: list[Step] = [
        Remove(service.configuration),
        Remove(f"{service.configuration}.old"),
        Remove(service.credentials),
        Remove(service.state_link),
        Remove(service.state),
    ]
    if service.role == "broker":
        steps.append(Remove(MOSQUITTO_CONFIGURATION))
    return steps
