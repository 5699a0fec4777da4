"""The authority of a federation: one directory, and nothing else holds these keys.

authority.json   which federation, how its broker is reached, how clients say who they are
ca.pem, ca.key   the certificate authority of its TLS (X.509)
authority.key    what credentials are signed with (Ed25519)
server.pem       the broker's certificate and its key
trust.pem        whom clients believe to be the broker, where that is not ours
crl.pem          who is revoked, for brokers
registry.sqlite  what was issued
coordinator/     the coordinator's membership
"""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Annotated, Literal, Self, TypeAlias

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from broker.certificates import Issuer, hosts_of, pem, revocation_list, server_certificate
from broker.registry import Registry
from config.failures import ExitCode, Failure
from config.sections import FederationName
from config.values import Word
from federation.bundle import one_line
from federation.certificates import (
    UNREADABLE_KEY,
    CertificateError,
    is_due,
    key_pem,
    new_tls_key,
    public_bytes,
    read_certificate,
)
from federation.files import replace_file
from federation.topics import Topics

Clients: TypeAlias = Literal["certificates", "passwords"]
DEFAULT_PORT = 8883
ALWAYS_HOSTS = ("localhost", "127.0.0.1", "::1")


class Description(BaseModel):
    """authority.json.

    Attributes:
        hosts: names and addresses of the broker; devices are told the first.
        clients: how clients say who they are.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    federation: FederationName
    hosts: Annotated[tuple[Word, ...], Field(min_length=1, max_length=32)]
    port: Annotated[int, Field(ge=1, le=65535)]
    clients: Clients = "certificates"

    @property
    def topics(self) -> Topics:
        """The topics of the federation."""
        return Topics(self.federation.prefix, self.federation.name)

    @property
    def name(self) -> str:
        """The federation, as credentials name it."""
        return self.topics.root.rstrip("/")


@dataclass(frozen=True, slots=True)
class Authority:
    """An authority whose directory was read; leaving its context closes the registry.

    Attributes:
        chain: the CA's certificate, and those above it, PEM.
        trust: whom clients believe to be the broker, PEM.
        is_ours: whether the broker shows a certificate that we make.
    """

    directory: Path
    description: Description
    issuer: Issuer
    chain: bytes
    trust: bytes
    is_ours: bool
    signing_key: Ed25519PrivateKey
    registry: Registry

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.registry.close()

    @property
    def public_key(self) -> bytes:
        """What verifies credentials, 32 bytes."""
        return self.signing_key.public_key().public_bytes_raw()

    def crl(self, now: dt.datetime) -> bytes:
        """Who is revoked now, PEM; it is kept beside the keys too."""
        moment = int(now.timestamp())
        serials = self.registry.revoked_serials(moment)
        text = revocation_list(self.issuer, serials, moment, now)
        replace_file(self.directory / "crl.pem", text, private=True)
        return text

    def renew_server(self, now: dt.datetime, also: tuple[str, ...] = ()) -> bool:
        """Renew the broker's certificate if it is due, or for other names; whether it was.

        Args:
            also: names and addresses that it must be good for, beyond those of the description.
        """
        path = self.directory / "server.pem"
        hosts = tuple(dict.fromkeys((*self.description.hosts, *ALWAYS_HOSTS, *also)))
        if path.exists():
            held = path.read_bytes()
            if not is_due(held, now) and set(hosts) <= set(hosts_of(read_certificate(held))):
                return False
        key = new_tls_key()
        certificate = server_certificate(self.issuer, key.public_key(), hosts, now)
        # One file, so that the two never come from different days.
        replace_file(path, pem(certificate) + self.chain + key_pem(key), private=True)
        return True


def open_authority(directory: Path, *, anew: bool = False) -> Authority:
    """The authority in a directory.

    Args:
        anew: it is being made: nobody is enrolled yet.

    Raises:
        Failure: there is none, or a file in it is not what it should be.
    """
    path = directory / "authority.json"
    if not path.exists():
        raise Failure(
            ExitCode.CONFIG,
            f"there is no authority in {directory}: make one with `flockwise broker init`",
        )
    try:
        description = Description.model_validate_json(path.read_bytes())
        chain = (directory / "ca.pem").read_bytes()
        issuer = read_issuer(chain, (directory / "ca.key").read_bytes())
        signing = load_pem_private_key((directory / "authority.key").read_bytes(), None)
        own = directory / "trust.pem"
        trust = own.read_bytes() if own.exists() else chain
    except ValidationError as error:
        raise Failure(ExitCode.CONFIG, f"{path}: {one_line(error)}") from None
    except OSError as error:
        raise Failure(
            ExitCode.CONFIG, f"authority: {error.filename} cannot be read: {error.strerror}"
        ) from None
    except UNREADABLE_KEY as error:
        raise Failure(ExitCode.CONFIG, f"authority {directory}: {error}".splitlines()[0]) from None
    if not isinstance(signing, Ed25519PrivateKey):
        raise Failure(ExitCode.CONFIG, f"{directory / 'authority.key'} is no Ed25519 key")
    registry = Registry(directory / "registry.sqlite", anew=anew)
    return Authority(
        directory, description, issuer, chain, trust, not own.exists(), signing, registry
    )


def read_issuer(chain: bytes, key: bytes) -> Issuer:
    """A certificate authority from its files, PEM.

    Args:
        chain: its own certificate first.

    Raises:
        CertificateError: they are not that of one, or do not belong together.
    """
    certificate = read_certificate(chain)
    try:
        private = load_pem_private_key(key, None)
    except TypeError:
        raise CertificateError("the CA's key is encrypted; decrypt it first") from None
    except UNREADABLE_KEY:
        raise CertificateError("the CA's key is no private key in PEM") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CertificateError("the CA's key is neither of an elliptic curve nor RSA")
    theirs = certificate.public_key()
    if not isinstance(theirs, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) or public_bytes(
        theirs
    ) != public_bytes(private.public_key()):
        raise CertificateError("the CA's key is not the key of its certificate")
    return Issuer(certificate, private)
