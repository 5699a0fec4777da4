"""The configuration of a service: checked by the loader of its role, and what it takes along.

The file goes to /etc/flockwise, readable by all: a service reads it under a user that exists only
while it runs, and again at each reload. What is secret, and what lies where services do not look,
does not stay in it: keys and a password become credentials, and data are copied to the state of the
service. The text says so, that other commands find the same; all else in it stays as it was.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import (
    AgentSettings,
    BrokerSettings,
    CoordinatorSettings,
    Link,
    Settings,
)
from installation.machine import Machine
from installation.membership import FOLDER, membership_of
from installation.places import Role, Service
from installation.settings_text import with_values

SETTINGS: dict[Role, type[Settings]] = {
    "agent": AgentSettings,
    "coordinator": CoordinatorSettings,
    "broker": BrokerSettings,
}
_EMPTY = "# Settings of this service; flockwise {role} run --help lists them.\n"


@dataclass(frozen=True, slots=True)
class Credential:
    """A key or certificate: what its setting is, and where it comes from.

    Attributes:
        source: the file that the settings name.
        content: what it says, where it stands in the settings themselves.
    """

    name: str
    source: Path | None
    content: str | None = None

    @property
    def is_secret(self) -> bool:
        """Whether it is worth encrypting."""
        return self.name in ("key", "password")


@dataclass(frozen=True, slots=True)
class Configuration:
    """What is installed of somebody's file.

    Attributes:
        settings: what it says.
        text: what goes to /etc/flockwise.
        data: the chunk or test set that it names.
        membership: the directory of its keys in a federation.
        credentials: the keys that it names.
    """

    settings: Settings
    text: str
    data: Path | None
    membership: Path | None
    credentials: tuple[Credential, ...]


def read_configuration(machine: Machine, service: Service, file: Path | None) -> Configuration:
    """Read and check the configuration of a service; without a file, the one it has.

    Raises Failure: CONFIG for settings that are not good, NO_INPUT for a file that is named in them
    and is not there.
    """
    prog = f"flockwise {service.role} install"
    held = machine.at(service.configuration)
    file = file or (held if held.exists() else None)
    if file is None and service.role == "agent":
        raise Failure(ExitCode.USAGE, f"--config FILE is required (see {prog} --help)")
    given = ["--config", str(file)] if file else []
    settings = load(SETTINGS[service.role], given, prog=prog, environ={})
    text = file.expanduser().read_text() if file else _EMPTY.format(role=service.role)
    link = getattr(settings, "link", None)
    credentials = _credentials(link) if isinstance(link, Link) else ()
    membership = membership_of(settings)
    configuration = Configuration(settings, text, _data(settings), membership, credentials)
    _require_files(machine, service, configuration)
    own = _own_values(service, configuration)
    return dataclasses.replace(configuration, text=with_values(text, own, str(file)))


def _own_values(service: Service, configuration: Configuration) -> dict[str, tuple[str, str]]:
    """What the service is told in place of what the file says: its own paths, and no password."""
    values = {"state_dir": ("state_dir", service.state_link)}
    if configuration.data is not None and service.data is not None:
        name = "chunk" if service.role == "agent" else "test_set"
        values[name] = (name, f"{service.state_link}/{Path(service.data).name}")
    if getattr(configuration.settings, "membership", None) is not None:
        values["membership"] = ("membership", f"{service.state_link}/{FOLDER}")
    if any(one.name == "password" and one.content is not None for one in configuration.credentials):
        values["link.password"] = ("link.password_file", f"{service.credentials}/password")
    return values


def _data(settings: Settings) -> Path | None:
    match settings:
        case AgentSettings():
            return settings.chunk.absolute()
        case CoordinatorSettings():
            return settings.test_set.absolute() if settings.test_set else None
        case _:
            return None


def _credentials(link: Link) -> tuple[Credential, ...]:
    files = {
        "ca": link.ca_file,
        "cert": link.cert_file,
        "key": link.key_file,
        "password": getattr(link, "password_file", None),
    }
    found = [Credential(name, file.absolute()) for name, file in files.items() if file]
    if isinstance(link.password, SecretStr):
        if "password_file" not in Link.model_fields:
            raise Failure(
                ExitCode.CONFIG,
                "link.password: settings of a service are readable by all who use the machine;"
                " use a key (link.key_file)",
            )
        found.append(Credential("password", None, link.password.get_secret_value()))
    return tuple(found)


def _require_files(machine: Machine, service: Service, configuration: Configuration) -> None:
    """Raise Failure for a file that is named and is neither there nor installed already."""
    if configuration.data is not None and service.data is not None:
        _require(configuration.data, machine.at(service.data))
    if configuration.membership is not None:
        installed = machine.at(f"{service.state}/{FOLDER}")
        _require(configuration.membership / "member.json", installed / "member.json")
    for credential in configuration.credentials:
        if credential.source is not None:
            place = machine.at(service.credentials) / credential.name
            _require(credential.source, place, place.with_suffix(".cred"))


def _require(source: Path, *installed: Path) -> None:
    try:
        with source.open("rb"):
            return
    except FileNotFoundError:
        # The settings in /etc name files by where they were when they were installed.
        if any(place.exists() for place in installed):
            return
        raise Failure(ExitCode.NO_INPUT, f"{source}: there is no such file") from None
    except OSError as error:
        raise Failure(ExitCode.NO_INPUT, f"{source}: cannot be read: {error.strerror}") from error
