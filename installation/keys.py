"""The steps of a plan that are about keys: kept for root alone, encrypted where systemd can."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from config.failures import ExitCode, Failure
from installation.configuration import Credential
from installation.machine import Machine
from installation.steps import MakeDirectory, Plan, Remove, replace

_ENCRYPTED = ".cred"


@dataclass(frozen=True, slots=True)
class KeepKey:
    """A credential as a file that root alone may read."""

    credential: Credential
    path: str
    verb: ClassVar[str] = "write"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The file; never what is in it."""
        return f"{self.path}{_origin(self.credential)}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is there; or what it was made from is gone, and it is there."""
        path = machine.at(self.path)
        wanted = _content(self.credential)
        return path.is_file() and (wanted is None or path.read_bytes() == wanted)

    def do(self, machine: Machine) -> None:
        """Write it."""
        replace(machine.at(self.path), _content(self.credential) or b"", 0o600)


@dataclass(frozen=True, slots=True)
class EncryptKey:
    """A credential that only this machine can read: by its TPM, or by the key of its systemd."""

    credential: Credential
    path: str
    verb: ClassVar[str] = "encrypt"
    shown: ClassVar[str] = ""

    @property
    def what(self) -> str:
        """The file; never what is in it."""
        return f"{self.path}{_origin(self.credential)}"

    def is_done(self, machine: Machine, changed: bool) -> bool:
        """Whether it is there and says the same; or what it was made from is gone."""
        path = machine.at(self.path)
        if not path.is_file():
            return False
        wanted = _content(self.credential)
        if wanted is None:
            return True
        name = f"--name={self.credential.name}"
        told = machine.run(("systemd-creds", "decrypt", name, str(path), "-"))
        return told.status == 0 and told.output.encode() == wanted

    def do(self, machine: Machine) -> None:
        """Have systemd encrypt it."""
        name = f"--name={self.credential.name}"
        argv = ("systemd-creds", "encrypt", name, "-", "-")
        told = machine.run(argv, _content(self.credential) or b"")
        if told.status != 0:
            raise Failure(
                ExitCode.UNAVAILABLE,
                f"systemd-creds cannot encrypt {self.credential.name}: {told.last_words}",
            )
        replace(machine.at(self.path), told.output.encode(), 0o600)


def key_steps(
    machine: Machine, directory: str, credentials: tuple[Credential, ...]
) -> tuple[Plan, tuple[str, ...], tuple[str, ...]]:
    """The steps for the keys of a service, and the names of the plain and the encrypted ones."""
    hidden = tuple(one for one in credentials if one.is_secret and machine.encrypts)
    plain = tuple(one for one in credentials if one not in hidden)
    steps: Plan = (
        *(KeepKey(one, f"{directory}/{one.name}") for one in plain),
        *(EncryptKey(one, f"{directory}/{one.name}{_ENCRYPTED}") for one in hidden),
        # What was there in the other form, or is not used any more.
        *(Remove(f"{directory}/{name}") for name in _NAMES if name not in names(plain)),
        *(
            Remove(f"{directory}/{name}{_ENCRYPTED}")
            for name in _NAMES
            if name not in names(hidden)
        ),
    )
    made: Plan = (MakeDirectory(directory, 0o700),) if credentials else ()
    return (*made, *steps), names(plain), names(hidden)


_NAMES = ("ca", "cert", "key", "password")


def names(credentials: tuple[Credential, ...]) -> tuple[str, ...]:
    """What they are called."""
    return tuple(one.name for one in credentials)


def _content(credential: Credential) -> bytes | None:
    """What it says; None if the file that said it is gone."""
    if credential.content is not None:
        return credential.content.encode()
    assert credential.source is not None, "a credential comes from somewhere"
    return credential.source.read_bytes() if credential.source.exists() else None


def _origin(credential: Credential) -> str:
    return f" from {credential.source}" if credential.source else " from link.password"
