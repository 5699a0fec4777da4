"""What makes a role a member of a federation: one directory of keys and certificates.

`flockwise agent join` makes it from what `flockwise broker enroll` gave; `flockwise broker init`
makes the coordinator's. With it all small messages are signed, what is heard is believed only from
its rightful writer, and updates are sealed. Without it none of that is.

    member.json      federation, device, broker; the authority's public key
    credential       who this is, signed by the authority        signing.key  what it signs with
    ca.pem           whom to believe to be the broker
    certificate.pem  who this is to the broker                   tls.key      the key of that
    password         in place of these two, where the broker asks for one
    least.json       the coordinator's: for each subject the least epoch of a credential to believe
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from config.failures import ExitCode, Failure
from config.sections import FederationName, Link
from config.settings import AgentSettings, CoordinatorSettings
from config.values import Identifier, Word
from federation.certificates import UNREADABLE_KEY
from federation.credentials import COORDINATOR, CredentialError, verified
from federation.envelope import Signer, Verifier
from federation.membership_files import settle
from federation.topics import Topics

FOLDER = "membership"
LOOK_EVERY_S = 2.0
_LARGEST_BYTES = 256 * 1024
_LOGIN = ("tls", "ca_file", "cert_file", "key_file", "username", "password", "password_file")
_LEAST = TypeAdapter(dict[str, Annotated[int, Field(ge=0)]])

L = TypeVar("L", bound=Link)
S = TypeVar("S", AgentSettings, CoordinatorSettings)

log = logging.getLogger(__name__)


class Member(BaseModel):
    """member.json: which federation, who in it, and where its broker is.

    Attributes:
        device: empty for the coordinator.
        authority: Ed25519 public key, 32 bytes.
        username: to log in with, where a password takes a certificate's place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    federation: FederationName
    device: Identifier | Literal[""]
    host: Word
    port: Annotated[int, Field(ge=1, le=65535)]
    authority: Annotated[Base64Bytes, Field(min_length=32, max_length=32)]
    tls: bool = True
    username: Word | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """A membership that was read: it holds together, and its keys can be used."""

    folder: Path
    member: Member
    signer: Signer
    epoch: int

    @property
    def topics(self) -> Topics:
        """The topics of its federation."""
        return Topics(self.member.federation.prefix, self.member.federation.name)

    def verifier(self, least: Mapping[str, int] | None = None) -> Verifier:
        """What this member believes.

        Args:
            least: for each subject the least epoch to believe, beyond what `least.json` says.

        Raises:
            Failure: `least.json` cannot be used.
        """
        return Verifier(self.member.authority, self.topics, least or {}, _Revocations(self.folder))

    def link(self, link: L) -> L:
        """The settings of a link, with the broker and the way to log in filled in from here.

        What was set by hand stays as it is, but TLS cannot be turned off.
        """
        told: dict[str, object] = {"host": self.member.host, "port": self.member.port}
        if self.member.tls:
            told |= {"tls": True, "ca_file": self.folder / "ca.pem"}
        certificate = self.folder / "certificate.pem"
        if self.member.tls and certificate.exists():
            told |= {"cert_file": certificate, "key_file": self.folder / "tls.key"}
        if self.member.username is not None:
            told |= {"username": self.member.username, "password_file": self.folder / "password"}
        said = link.model_dump(exclude_unset=True)
        for name in _LOGIN:  # as it is unless set, it says nothing
            if name in said and said[name] == type(link).model_fields[name].default:
                del said[name]
        if "password" in said:
            told.pop("password_file", None)
        return type(link).model_validate({**told, **said})

    def completed(self, settings: S) -> S:
        """The settings of a role, with the federation and the link to its broker from here.

        Raises:
            Failure: the settings name another federation, or another device.
        """
        device = settings.device if isinstance(settings, AgentSettings) else COORDINATOR
        if device != self.member.device:
            whose = f"of {self.member.device}" if self.member.device else "the coordinator's"
            raise _unusable(self.folder, f"it is {whose}, and not of {device or 'the coordinator'}")
        named = settings.federation
        if named.model_fields_set and named != self.member.federation:
            theirs = f"{self.member.federation.prefix}/{self.member.federation.name}"
            raise _unusable(
                self.folder, f"it is for the federation {theirs}, not {named.prefix}/{named.name}"
            )
        told = {"federation": self.member.federation, "link": self.link(settings.link)}
        return settings.model_copy(update=told)


class _Revocations:
    """`least.json`, read again when it has changed: a revocation counts within seconds."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "least.json"
        self._read_ns = -1
        self._looked_s = -inf
        self._least: Mapping[str, int] = {}
        self._look()

    def __call__(self) -> Mapping[str, int]:
        """For each subject that was revoked or enrolled again the least epoch to believe."""
        if time.monotonic() - self._looked_s >= LOOK_EVERY_S:
            try:
                self._look()
            except Failure as failure:  # it was good, and will be again: what was said still holds
                log.error("%s", failure.message)
        return self._least

    def _look(self) -> None:
        self._looked_s = time.monotonic()
        try:
            changed_ns = self._path.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed_ns == self._read_ns:
            return
        try:
            self._least = _LEAST.validate_json(_bytes_of(self._path))
        except ValidationError:
            raise _unusable(self._path, "it is not what it should be") from None
        self._read_ns = changed_ns


def read_membership(folder: Path) -> Membership:
    """The membership in a directory.

    Raises:
        Failure: there is none, it does not hold together, or others may read its keys.
    """
    path = folder / "member.json"
    try:
        settle(folder)
    except OSError as error:
        raise _unusable(folder, str(error.strerror)) from None
    try:
        member = Member.model_validate_json(_bytes_of(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise _unusable(path, f"{where}: {first['msg']}".splitlines()[0]) from None
    name = f"{member.federation.prefix}/{member.federation.name}"
    signed = _bytes_of(folder / "credential")
    key = _signing_key(folder / "signing.key")
    try:
        credential = verified(member.authority, signed)
    except CredentialError as error:
        raise _unusable(folder / "credential", str(error)) from None
    if (credential.federation, credential.subject) != (name, member.device):
        raise _unusable(folder / "credential", "it is somebody else's")
    needed = ["ca.pem"] if member.tls else []
    if member.tls:
        needed += ["certificate.pem", "tls.key"] if member.username is None else ["password"]
    for name in needed:
        _bytes_of(folder / name)
    for name in ("signing.key", "tls.key", "password"):
        _require_private(folder / name)
    if credential.key != key.public_key().public_bytes_raw():
        raise _unusable(folder / "signing.key", "it is not the key that the credential names")
    return Membership(folder, member, Signer(key, signed), credential.epoch)


def as_member(settings: S, *, how: str) -> tuple[S, Membership | None]:
    """The settings of a role completed by its membership, and this; as they are without one.

    Args:
        how: the command that makes one, for people.

    Raises:
        Failure: as `find_membership` and `Membership.completed`.
    """
    found = find_membership(
        settings.membership, settings.state_dir, insecure=settings.insecure, how=how
    )
    return (settings, None) if found is None else (found.completed(settings), found)


def find_membership(
    chosen: Path | None, state_dir: Path, *, insecure: bool, how: str
) -> Membership | None:
    """The membership that a role is to use; None where it may go on without one.

    Args:
        chosen: the directory that the settings name, if they do.
        insecure: whether the settings allow to go on without any.
        how: the command that makes one, for people.

    Raises:
        Failure: there is none and the settings do not allow that, or it cannot be used.
    """
    folder = state_dir / FOLDER if chosen is None else chosen
    with suppress(OSError):
        settle(folder)  # of a join that was cut short, all is there
    if chosen is not None or (folder / "member.json").exists():
        return read_membership(folder)
    if insecure:
        log.warning("without a membership: nothing is signed, sealed or verified")
        return None
    raise Failure(
        ExitCode.CONFIG,
        f"there is no membership of a federation in {folder}: get one with `{how}`, or say "
        "--insecure to sign, seal and believe without one",
    )


def _signing_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_bytes_of(path), None)
    except UNREADABLE_KEY:
        raise _unusable(path, "it is no private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise _unusable(path, "it is no Ed25519 key")
    return key


def _require_private(path: Path) -> None:
    """What is secret is for its owner alone; what belongs to another is that one's business."""
    if path.exists() and path.stat().st_mode & 0o077 and os.geteuid() == path.stat().st_uid:
        raise _unusable(path, "others may read it; chmod 600 it")


def _bytes_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_BYTES)
    except OSError as error:
        raise _unusable(path, str(error.strerror)) from None


def _unusable(path: Path, why: str) -> Failure:
    return Failure(ExitCode.CONFIG, f"membership: {path} cannot be used: {why}")
