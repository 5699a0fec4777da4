"""A gateway with an authority and devices that are its members, as services.

Run by `make test-systemd`, as root.
"""

from __future__ import annotations

import pytest

from tests.systemd_container import Container
from tests.systemd_machines import (
    AGENTS,
    COORDINATOR,
    GATEWAY,
    ONE,
    TWO,
    container,
    given,
    install,
    installed,
)
from tests.systemd_service import Service

pytestmark = pytest.mark.timeout(3600)
AUTHORITY = "/var/lib/private/flockwise/broker/authority"


def test_members_learn_as_services_and_who_is_revoked_is_put_out() -> None:
    with container("secured", installed().layers) as machine:
        machine.boot()
        machine.run("systemctl", "disable", "--now", "--quiet", *GATEWAY, *AGENTS)
        machine.run("rm", "-rf", *(f"/var/lib/private/flockwise/agent-{n}" for n in ("one", "two")))
        flockwise(machine, "broker", "init", "--authority", AUTHORITY, "--host", "127.0.0.1")
        settings(machine, "broker", 'authority = "/var/lib/flockwise/broker/authority"\n')
        become_member(machine, "coordinator", f"{AUTHORITY}/coordinator")
        files = ("--config", "/root/coordinator.toml", "--broker-config", "/root/broker.toml")
        install(machine, "gateway", *files)
        for device in ("one", "two"):
            join(machine, device)
            files = ("--name", device, "--config", f"/root/{device}.toml")
            install(machine, "agent", *files)
        coordinator = Service(machine, COORDINATOR)
        coordinator.wait_for("version made")
        assert not coordinator.told("message not believed")
        kept = machine.path("/var/lib/private/flockwise/agent-one/membership")
        assert kept.stat().st_mode & 0o777 == 0o700
        assert Service(machine, TWO).state == "active"
        said = flockwise(machine, "broker", "revoke", "one", "--authority", AUTHORITY)
        assert "the running broker has taken it up" in said
        Service(machine, ONE).wait_for("link down")
        coordinator.wait_for("device offline")
        coordinator.wait_for_more("update accepted")  # of the other one


def join(machine: Container, device: str) -> None:
    """Enrol a device, carry its bundle over, and join."""
    bundle, state = f"/root/{device}.flockwise", f"/root/{device}"
    words = ("--authority", AUTHORITY, "--output", bundle)
    flockwise(machine, "broker", "enroll", device, *words)
    flockwise(machine, "agent", "join", bundle, "--state-dir", state)
    become_member(machine, device, f"{state}/membership")


def become_member(machine: Container, name: str, membership: str) -> None:
    """The settings of a role, with this membership in the place of none."""
    text = (given() / f"{name}.toml").read_text()
    settings(machine, name, text.replace("insecure = true", f'membership = "{membership}"'))


def settings(machine: Container, name: str, text: str) -> None:
    machine.path(f"/root/{name}.toml").write_text(text)


def flockwise(machine: Container, *words: str) -> str:
    return machine.run("flockwise", *words).stdout
