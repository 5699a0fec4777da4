"""Where everything of a service lies on a machine: one place for each thing, all told here.

A service is a role, or one of several agents by its name: `agent`, `agent-NAME`, `coordinator`,
`broker`. Its unit, configuration, credentials and state bear that word.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Role: TypeAlias = Literal["agent", "coordinator", "broker"]

ENVIRONMENTS = "/opt/flockwise"
CURRENT = f"{ENVIRONMENTS}/current"
PROGRAM = f"{CURRENT}/bin/flockwise"
COMMAND = "/usr/local/bin/flockwise"
CONFIGURATION = "/etc/flockwise"
CREDENTIALS = f"{CONFIGURATION}/credentials"
MOSQUITTO_CONFIGURATION = f"{CONFIGURATION}/mosquitto.conf"
UNITS = "/etc/systemd/system"
STATES = "/var/lib/flockwise"
TEMPLATE = "flockwise-agent@.service"


@dataclass(frozen=True, slots=True)
class Service:
    """One role on this machine; `name` tells several agents apart."""

    role: Role
    name: str | None = None

    @property
    def word(self) -> str:
        """What its files are called after."""
        return f"{self.role}-{self.name}" if self.name else self.role

    @property
    def unit(self) -> str:
        """The name of its unit."""
        return f"flockwise-{self.role}@{self.name}.service" if self.name else f"{self.base_unit}"

    @property
    def base_unit(self) -> str:
        """The unit file that it is started from: a template for a named agent."""
        return TEMPLATE if self.name else f"flockwise-{self.role}.service"

    @property
    def drop_in(self) -> str | None:
        """Where a named agent says what is its own."""
        return f"{UNITS}/{self.unit}.d/flockwise.conf" if self.name else None

    @property
    def configuration(self) -> str:
        """Its settings."""
        return f"{CONFIGURATION}/{self.word}.toml"

    @property
    def credentials(self) -> str:
        """The directory of its keys."""
        return f"{CREDENTIALS}/{self.word}"

    @property
    def state_name(self) -> str:
        """Its state and runtime directory, as units spell them."""
        return f"flockwise/{self.word}"

    @property
    def state(self) -> str:
        """Its state directory; systemd links /var/lib/flockwise/... to it."""
        return f"/var/lib/private/{self.state_name}"

    @property
    def state_link(self) -> str:
        """The name under which people know its state."""
        return f"/var/lib/{self.state_name}"

    @property
    def data(self) -> str | None:
        """The one file that it is given to learn from, or to test on."""
        names = {"agent": "chunk.npz", "coordinator": "test-set.npz"}
        return f"{self.state}/{names[self.role]}" if self.role in names else None


def environment(number: int) -> str:
    """The directory of an environment; a later one has a greater number."""
    return f"{ENVIRONMENTS}/environment-{number}"
