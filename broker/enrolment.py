"""Who belongs: memberships given, renewed and revoked, each one noted in the registry first.

A membership is given whole (`bundle_for`), or its public parts alone for keys that were made on the
device (`admit`). Enrolling again replaces: the epoch grows, and what was given before is revoked.
"""

from __future__ import annotations

import datetime as dt
import json
from base64 import b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.authority import Authority
from broker.certificates import DEVICE_DAYS, client_certificate, pem
from broker.passwords import hashed, new_password
from broker.registry import Entry
from config.failures import ExitCode, Failure
from federation.bundle import Bundle
from federation.certificates import (
    COORDINATOR_NAME,
    CertificateError,
    is_due,
    key_pem,
    new_tls_key,
    public_bytes,
    read_key,
    read_request,
)
from federation.credentials import COORDINATOR, Credential, issue
from federation.files import replace_file
from federation.membership import Member
from federation.membership_files import write_membership


@dataclass(frozen=True, slots=True)
class Admission:
    """The public parts of a membership, and a password in place of a certificate."""

    member: Member
    credential: bytes
    ca: bytes
    certificate: bytes | None
    password: str | None


def admit(
    authority: Authority,
    subject: str,
    tls_key: ec.EllipticCurvePublicKey,
    signing_key: bytes,
    now: dt.datetime,
    days: float = DEVICE_DAYS,
) -> Admission:
    """Give a membership to who has these keys; what the subject had before is revoked."""
    description, registry = authority.description, authority.registry
    by_password = description.clients == "passwords"
    name = subject or COORDINATOR_NAME
    certificate = None
    if not by_password:
        certificate = client_certificate(authority.issuer, tls_key, name, now, days)
    password = new_password() if by_password else None
    with registry.changing():
        epoch = registry.next_epoch(subject)
        registry.enter(
            Entry(
                subject=subject,
                epoch=epoch,
                serial=None if certificate is None else certificate.serial_number,
                not_after=None
                if certificate is None
                else int(certificate.not_valid_after_utc.timestamp()),
                tls_key=None if by_password else public_bytes(tls_key),
                password=None if password is None else hashed(password),
                issued_at=int(now.timestamp()),
                revoked_at=None,
            )
        )
    credential = Credential(
        federation=description.name, subject=subject, epoch=epoch, key=signing_key
    )
    is_local = not subject and authority.is_ours
    member = Member(
        federation=description.federation,
        device=subject,
        host="127.0.0.1" if is_local else description.hosts[0],
        port=description.port,
        authority=b64encode(authority.public_key),
        username=name if by_password else None,
    )
    _tell(authority, now)
    return Admission(
        member,
        issue(authority.signing_key, credential),
        authority.trust,
        None if certificate is None else pem(certificate) + authority.chain,
        password,
    )


def bundle_for(
    authority: Authority, subject: str, now: dt.datetime, days: float = DEVICE_DAYS
) -> Bundle:
    """A membership whole, with keys that are made here."""
    tls_key, signing_key = new_tls_key(), Ed25519PrivateKey.generate()
    public = signing_key.public_key().public_bytes_raw()
    given = admit(authority, subject, tls_key.public_key(), public, now, days)
    return Bundle(
        kind="flockwise membership",
        member=given.member,
        credential=b64encode(given.credential),
        signing_key=signing_key.private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
        ).decode(),
        ca=given.ca.decode(),
        certificate=given.certificate.decode() if given.certificate else None,
        tls_key=key_pem(tls_key).decode() if given.certificate else None,
        password=given.password,
    )


def enrol_coordinator(authority: Authority, now: dt.datetime) -> None:
    """Write the coordinator's membership into the directory of the authority."""
    directory = authority.directory / "coordinator"
    write_membership(directory, bundle_for(authority, COORDINATOR, now).files)
    _tell(authority, now)


def revoke(authority: Authority, device: str, now: dt.datetime) -> Entry:
    """Shut a device out; what holds for it now.

    Raises:
        Failure: it is not enrolled.
    """
    held = authority.registry.find(device)
    if held is None:
        raise not_enrolled(authority, device)
    if not held.is_revoked:
        with authority.registry.changing():
            authority.registry.revoke(device, int(now.timestamp()))
    _tell(authority, now)
    return authority.registry.find(device) or held


def renewed(
    authority: Authority,
    request: bytes,
    subject: str,
    now: dt.datetime,
    days: float = DEVICE_DAYS,
) -> bytes:
    """A new certificate for a request, PEM with its chain; the key must be the enrolled one.

    Raises:
        CertificateError: the request is none, or its subject may not have a certificate; the text
            says why.
    """
    key = read_request(request, subject or COORDINATOR_NAME)
    held = authority.registry.find(subject)
    if held is None:
        raise CertificateError(f"{subject} is not enrolled")
    if held.is_revoked:
        raise CertificateError(f"{subject} is revoked")
    if held.tls_key is None or held.tls_key != public_bytes(key):
        raise CertificateError(f"{subject} asks with a key that is not the enrolled one")
    certificate = client_certificate(authority.issuer, key, subject or COORDINATOR_NAME, now, days)
    end = int(certificate.not_valid_after_utc.timestamp())
    authority.registry.renew(held, certificate.serial_number, end)
    return pem(certificate) + authority.chain


def renew_coordinator(authority: Authority, now: dt.datetime) -> bool:
    """Renew the certificate of the coordinator's membership in this directory, if it is due."""
    directory = authority.directory / "coordinator"
    path = directory / "certificate.pem"
    if not path.exists() or not is_due(path.read_bytes(), now):
        return False
    key = read_key((directory / "tls.key").read_bytes()).public_key()
    held = authority.registry.find(COORDINATOR)
    if held is None or held.tls_key != public_bytes(key):
        raise CertificateError(f"{directory} is not what was enrolled")
    certificate = client_certificate(authority.issuer, key, COORDINATOR_NAME, now, DEVICE_DAYS)
    end = int(certificate.not_valid_after_utc.timestamp())
    authority.registry.renew(held, certificate.serial_number, end)
    replace_file(path, pem(certificate) + authority.chain, private=True)
    return True


def not_enrolled(authority: Authority, device: str) -> Failure:
    """The failure for a device that nobody enrolled."""
    return Failure(
        ExitCode.CONFIG,
        f"{device} is not enrolled in {authority.description.name}; `flockwise broker list` tells"
        " who is",
    )


def _tell(authority: Authority, now: dt.datetime) -> None:
    """Let the coordinator know which credentials to believe no more, and brokers too."""
    authority.crl(now)
    folder = authority.directory / "coordinator"
    if not folder.exists():
        return
    least = {
        entry.subject: entry.epoch + (1 if entry.is_revoked else 0)
        for entry in authority.registry.entries()
        if entry.epoch > 1 or entry.is_revoked
    }
    replace_file(folder / "least.json", json.dumps(least, indent=0).encode() + b"\n", private=True)
