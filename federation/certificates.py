"""What a role needs of X.509: its TLS key, a request for a certificate, and when one is due anew.

Keys are EC P-256, which every TLS library of the last ten years knows. The name in a certificate
(CN) is the id of a device, or one of the names below, which no device can have.
"""

from __future__ import annotations

import datetime as dt
import warnings

from cryptography import x509
from cryptography.exceptions import InternalError, InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID

COORDINATOR_NAME = "_coordinator"
AUTHORITY_NAME = "_authority"
# A certificate is renewed when so much of its life is over.
_DUE_AT = 2 / 3
LONGEST_PEM = 64 * 1024
# What the cryptography library makes of bytes that are no key, and of keys that it does not know.
UNREADABLE_KEY = (ValueError, TypeError, UnsupportedAlgorithm, InternalError)


class CertificateError(ValueError):
    """What came is no key, certificate or request as they are used here; the text is one line."""


def new_tls_key() -> ec.EllipticCurvePrivateKey:
    """A key for TLS."""
    return ec.generate_private_key(ec.SECP256R1())


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as a file holds it: PEM, not encrypted."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def read_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """The private key in a file.

    Raises:
        CertificateError: it holds none, or one of another kind.
    """
    try:
        key = load_pem_private_key(pem, None)
    except UNREADABLE_KEY:
        raise CertificateError("that is no private key in PEM") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise CertificateError("that is no private key of an elliptic curve")
    return key


def named(name: str) -> x509.Name:
    """A name with nothing but a CN."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def common_name(name: x509.Name) -> str:
    """The CN of a name; empty if it has none, or several."""
    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(found[0].value) if len(found) == 1 else ""


def request_certificate(key: ec.EllipticCurvePrivateKey, name: str) -> bytes:
    """A certificate signing request, DER."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(named(name))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def read_request(der: bytes, name: str) -> ec.EllipticCurvePublicKey:
    """The public key that a request asks a certificate for, under this name.

    Raises:
        CertificateError: it is no request, not for that name, or its signature is not right.
    """
    if len(der) > LONGEST_PEM:
        raise CertificateError(f"a request of {len(der)} bytes is too long")
    try:
        request = x509.load_der_x509_csr(der)
        key = request.public_key()
        is_signed = request.is_signature_valid
        asked_for = common_name(request.subject)
    except (*UNREADABLE_KEY, InvalidSignature, x509.InvalidVersion):
        raise CertificateError("that is no certificate signing request in DER") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not is_p256(key) or not is_signed:
        raise CertificateError("the request is not signed by a key of the curve P-256")
    if asked_for != name:
        raise CertificateError("the request is for another name")
    return key


def is_p256(key: ec.EllipticCurvePublicKey) -> bool:
    """Whether it is a key of the curve that we use."""
    return isinstance(key.curve, ec.SECP256R1)


def public_bytes(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    """A public key as it is compared and kept: DER."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def read_certificate(pem: bytes) -> x509.Certificate:
    """The first certificate in a file.

    Raises:
        CertificateError: there is none.
    """
    if len(pem) > LONGEST_PEM:
        raise CertificateError(f"a certificate of {len(pem)} bytes is too long")
    try:
        with warnings.catch_warnings():
            # What a certificate should not say is an error, and no line on a terminal.
            warnings.simplefilter("error", CryptographyDeprecationWarning)
            certificate = x509.load_pem_x509_certificate(pem)
            # Parts are parsed only when asked for: what cannot be used is to be found out here.
            _ = certificate.public_key(), certificate.subject, certificate.not_valid_after_utc
            _ = certificate.serial_number
    except (*UNREADABLE_KEY, x509.InvalidVersion, CryptographyDeprecationWarning):
        raise CertificateError("that is no certificate in PEM") from None
    return certificate


def is_due(certificate_pem: bytes, now: dt.datetime) -> bool:
    """Whether a certificate is to be renewed: two thirds of its life are over.

    Args:
        now: with a time zone.

    Raises:
        CertificateError: it is no certificate.
    """
    certificate = read_certificate(certificate_pem)
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return now >= begin + (end - begin) * _DUE_AT
