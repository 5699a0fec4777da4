"""The certificates that the authority makes: its own, the broker's, a role's, and who is revoked.

Plain functions: keys and names in, X.509 out. All begin a day before now, as the clock of a small
device may be behind.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID

from federation.certificates import named

AUTHORITY_DAYS = 3650
DEVICE_DAYS = 365
SERVER_DAYS = 90
_BEFORE = dt.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Issuer:
    """Who signs: a CA's certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(certificate: x509.Certificate) -> bytes:
    """A certificate as a file holds it."""
    return certificate.public_bytes(Encoding.PEM)


def new_authority(key: ec.EllipticCurvePrivateKey, name: str, now: dt.datetime) -> Issuer:
    """A certificate authority of its own, for ten years."""
    builder = _builder(named(name), key.public_key(), now, now + dt.timedelta(days=AUTHORITY_DAYS))
    builder = builder.issuer_name(named(name))
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=True), critical=True)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = builder.add_extension(identifier, critical=False)
    return Issuer(builder.sign(key, hashes.SHA256()), key)


def server_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, hosts: tuple[str, ...], now: dt.datetime
) -> x509.Certificate:
    """The broker's certificate, for these names and addresses."""
    names = x509.SubjectAlternativeName([_general_name(host) for host in hosts])
    builder = _issued(issuer, hosts[0], key, now, SERVER_DAYS)
    builder = builder.add_extension(names, critical=False)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
    builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def hosts_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The names and addresses that a server's certificate is for."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in found)


def client_certificate(
    issuer: Issuer, key: ec.EllipticCurvePublicKey, name: str, now: dt.datetime, days: float
) -> x509.Certificate:
    """The certificate with which a role shows the broker that it is `name`."""
    builder = _issued(issuer, name, key, now, days)
    usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
    builder = builder.add_extension(usage, critical=False)
    return builder.sign(issuer.key, hashes.SHA256())


def revocation_list(issuer: Issuer, serials: Iterable[int], number: int, now: dt.datetime) -> bytes:
    """The CRL, PEM.

    It is good until the CA's own end: a broker refuses everybody when the time of its list is over.
    """
    end = issuer.certificate.not_valid_after_utc
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject)
    builder = builder.last_update(now - _BEFORE).next_update(end)
    builder = builder.add_extension(x509.CRLNumber(number), critical=False)
    key_identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = builder.add_extension(key_identifier, critical=False)
    for serial in serials:
        entry = x509.RevokedCertificateBuilder().serial_number(serial)
        builder = builder.add_revoked_certificate(entry.revocation_date(now - _BEFORE).build())
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _issued(
    issuer: Issuer, name: str, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: float
) -> x509.CertificateBuilder:
    end = min(now + dt.timedelta(days=days), issuer.certificate.not_valid_after_utc)
    builder = _builder(named(name[:64]), key, now, end).issuer_name(issuer.certificate.subject)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    return builder.add_extension(identifier, critical=False)


def _builder(
    subject: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, end: dt.datetime
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    return builder.not_valid_before(min(now, end) - _BEFORE).not_valid_after(end)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(host: str) -> x509.GeneralName:
    with suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    return x509.DNSName(host)
