"""The bundle: all files of one membership in one text, to be carried to a device.

It holds private keys, so who has it is that device. JSON, of at most 256 KiB; everything in it is
checked before anything is written: sizes, names, that keys fit certificates, and that the
credential is the authority's.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError, model_validator

from federation.certificates import (
    COORDINATOR_NAME,
    UNREADABLE_KEY,
    common_name,
    public_bytes,
    read_certificate,
    read_key,
)
from federation.credentials import CredentialError, verified
from federation.membership import Member

LONGEST_BYTES = 256 * 1024

Pem = Annotated[str, Field(min_length=1, max_length=64 * 1024, pattern=r"^-----BEGIN [ -~\n\r]*$")]

Password = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]


class BundleError(ValueError):
    """What was read is no bundle; the text is one line and shows nothing that is secret."""


class Bundle(BaseModel):
    """A membership whole.

    Attributes:
        credential: the signed credential.
        ca: whom to believe to be the broker; none where there is no TLS.
        certificate, tls_key: who this is to the broker; none where a password says so.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["flockwise membership"]
    member: Member
    credential: Annotated[Base64Bytes, Field(min_length=1, max_length=1024)]
    signing_key: Pem = Field(repr=False)
    ca: Pem | None = None
    certificate: Pem | None = None
    tls_key: Pem | None = Field(default=None, repr=False)
    password: Password | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _holds_together(self) -> Self:
        member = self.member
        if member.tls != (self.ca is not None):
            raise ValueError("ca goes with tls, and tls with ca")
        if (self.certificate is None) != (self.tls_key is None):
            raise ValueError("certificate and tls_key go together")
        if (member.username is None) != (self.password is None):
            raise ValueError("username and password go together")
        if (self.certificate is None) == (self.password is None):
            raise ValueError("there must be either a certificate or a password")
        _check_identity(self)
        return self

    @property
    def files(self) -> dict[str, bytes]:
        """The files of the membership directory, by their names."""
        texts = {
            "ca.pem": self.ca,
            "certificate.pem": self.certificate,
            "tls.key": self.tls_key,
            "signing.key": self.signing_key,
            "password": self.password,
        }
        found = {name: text.encode() for name, text in texts.items() if text is not None}
        found["credential"] = self.credential
        found["member.json"] = self.member.model_dump_json(indent=2).encode() + b"\n"
        return found


def write_bundle(bundle: Bundle) -> bytes:
    """The bundle as it is carried."""
    return bundle.model_dump_json(indent=1, exclude_none=True).encode() + b"\n"


def read_bundle(data: bytes) -> Bundle:
    """The bundle that was carried here.

    Raises:
        BundleError: it is none, or it does not hold together.
    """
    if len(data) > LONGEST_BYTES:
        raise BundleError(f"{len(data)} bytes are too many for a bundle")
    try:
        return Bundle.model_validate_json(data)
    except ValidationError as error:
        raise BundleError(one_line(error)) from None


def one_line(error: ValidationError) -> str:
    """The first thing that is wrong, and where; nothing of what was given."""
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part) for part in first["loc"] if str(part).isidentifier())
    told = " ".join(str(first["msg"]).removeprefix("Value error, ").split())
    return (f"{where}: {told}" if where else told)[:200]


def _check_identity(bundle: Bundle) -> None:
    """Raise ValueError, in one line, for parts that do not belong together."""
    member = bundle.member
    try:
        credential = verified(member.authority, bundle.credential)
    except CredentialError as error:
        raise ValueError(str(error)) from None
    federation = f"{member.federation.prefix}/{member.federation.name}"
    if (credential.federation, credential.subject) != (federation, member.device):
        raise ValueError("the credential is somebody else's")
    try:
        key = load_pem_private_key(bundle.signing_key.encode(), None)
    except UNREADABLE_KEY:
        raise ValueError("signing_key is no private key in PEM") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError("signing_key is no Ed25519 key")
    if key.public_key().public_bytes_raw() != credential.key:
        raise ValueError("signing_key is not the key that the credential names")
    if bundle.ca is not None:
        read_certificate(bundle.ca.encode())
    if bundle.certificate is not None and bundle.tls_key is not None:
        _check_certificate(bundle.certificate, bundle.tls_key, member.device or COORDINATOR_NAME)


def _check_certificate(certificate: str, tls_key: str, name: str) -> None:
    held = read_certificate(certificate.encode())
    key = read_key(tls_key.encode()).public_key()
    try:
        theirs, whose = held.public_key(), common_name(held.subject)
    except UNREADABLE_KEY:
        raise ValueError("the certificate cannot be understood") from None
    if whose != name:
        raise ValueError("the certificate is somebody else's")
    if not isinstance(theirs, ec.EllipticCurvePublicKey) or public_bytes(theirs) != public_bytes(
        key
    ):
        raise ValueError("tls_key is not the key of the certificate")
