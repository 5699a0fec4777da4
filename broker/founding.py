"""How an authority comes to be: all of its directory at once, or nothing."""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from broker.authority import Authority, Description, open_authority, read_issuer
from broker.certificates import new_authority, pem
from broker.enrolment import enrol_coordinator
from config.failures import ExitCode, Failure
from federation.certificates import CertificateError, key_pem, new_tls_key, read_certificate
from federation.files import replace_file, sync_directory
from federation.membership_files import make_private_directory


@dataclass(frozen=True, slots=True)
class Plan:
    """What kind of authority is wanted.

    Attributes:
        ca: certificate (and those above it) and key of one that exists, PEM.
        broker_ca: whom to believe to be the broker, PEM, where somebody else runs it.
    """

    description: Description
    ca: tuple[bytes, bytes] | None = None
    broker_ca: bytes | None = None


def found(directory: Path, plan: Plan, now: dt.datetime) -> None:
    """Make an authority, with the coordinator's membership in it.

    Raises:
        Failure: there is something already, what was given is no CA, or it cannot be written.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise Failure(
            ExitCode.CONFIG,
            f"{directory} is there already, and an authority is never overwritten: its devices"
            " would all have to be enrolled anew",
        )
    part = directory.with_name(directory.name + ".part")
    try:
        shutil.rmtree(part, ignore_errors=True)
        make_private_directory(part)
        try:
            _fill(part, plan, now)
            with open_authority(part, anew=True) as authority:
                _complete(authority, now)
            part.replace(directory)
        except BaseException:
            shutil.rmtree(part, ignore_errors=True)
            raise
        sync_directory(directory.parent)
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"authority: cannot write {directory} ({error.strerror})"
        ) from error


def _fill(directory: Path, plan: Plan, now: dt.datetime) -> None:
    chain, key = plan.ca or _own_authority(plan.description.name, now)
    try:
        _check_authority(chain, key, now)
        if plan.broker_ca is not None:
            read_certificate(plan.broker_ca)
    except CertificateError as error:
        raise Failure(ExitCode.CONFIG, f"authority: {error}") from None
    signing = Ed25519PrivateKey.generate()
    files = {
        "ca.pem": chain,
        "ca.key": key,
        "authority.key": signing.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "authority.json": plan.description.model_dump_json(indent=2).encode() + b"\n",
    }
    if plan.broker_ca is not None:
        files["trust.pem"] = plan.broker_ca
    for name, data in files.items():
        replace_file(directory / name, data, private=True)


def _complete(authority: Authority, now: dt.datetime) -> None:
    authority.renew_server(now)
    authority.crl(now)
    enrol_coordinator(authority, now)


def _own_authority(federation: str, now: dt.datetime) -> tuple[bytes, bytes]:
    key = new_tls_key()
    issuer = new_authority(key, f"Flockwise {federation}"[:64], now)
    return pem(issuer.certificate), key_pem(key)


def _check_authority(chain: bytes, key: bytes, now: dt.datetime) -> None:
    """Raise CertificateError for what brokers and devices would not take for a CA later on."""
    certificate = read_issuer(chain, key).certificate
    try:
        rights = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        is_authority = rights.ca
    except x509.ExtensionNotFound:
        is_authority = False
    if not is_authority:
        raise CertificateError("the certificate is not that of a CA (basicConstraints)")
    if certificate.not_valid_after_utc <= now:
        raise CertificateError("the CA's certificate has ended")
    last = x509.load_pem_x509_certificates(chain)[-1]
    if last.subject != last.issuer:
        raise CertificateError(
            "the file of the CA must hold those above it too, up to the root, in this order"
        )
