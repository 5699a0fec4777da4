"""A member's side of renewal: what it asks with, and what it does with the answer.

The key stays the same, so nothing secret moves: a request goes up under the member's own name, the
new certificate comes down, and takes the place of the old one in the membership directory. `name`
is the one in the topics: the id of a device, or `_coordinator`.
"""

from __future__ import annotations

import datetime as dt
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from federation.certificates import (
    LONGEST_PEM,
    UNREADABLE_KEY,
    CertificateError,
    common_name,
    is_due,
    public_bytes,
    read_certificate,
    read_key,
    request_certificate,
)
from federation.files import replace_file


def name_of(membership: Path) -> str:
    """The name in the certificate of a membership, and in the topics of its renewal.

    Raises:
        CertificateError: there is no certificate that can be read.
        OSError: it cannot be read.
    """
    return common_name(read_certificate((membership / "certificate.pem").read_bytes()).subject)


def due_request(membership: Path, now: dt.datetime) -> bytes | None:
    """The request to publish on `device/<id>/csr`; None while the certificate has time.

    It is None too for a membership that logs in with a password.

    Raises:
        CertificateError: a file of the membership is not what it should be.
        OSError: it cannot be read.
    """
    path = membership / "certificate.pem"
    if not path.exists():
        return None
    pem = path.read_bytes()
    if not is_due(pem, now):
        return None
    name = common_name(read_certificate(pem).subject)
    return request_certificate(read_key((membership / "tls.key").read_bytes()), name)


def install_certificate(membership: Path, answer: bytes) -> bool:
    """Put the certificate that came on `device/<id>/certificate` in the place of the old one.

    Returns whether it is a later one than that which was there; an older one is left alone. The
    session shows it from its next connection on, if its TLS context is made anew.

    Raises:
        CertificateError: it is no certificate for this name and key from this authority.
        OSError: it cannot be written.
    """
    if not 0 < len(answer) <= LONGEST_PEM:
        raise CertificateError(f"a certificate of {len(answer)} bytes cannot be")
    path = membership / "certificate.pem"
    held, came = read_certificate(path.read_bytes()), read_certificate(answer)
    if common_name(came.subject) != common_name(held.subject):
        raise CertificateError("the certificate is somebody else's")
    key = read_key((membership / "tls.key").read_bytes())
    theirs = came.public_key()
    if not isinstance(theirs, ec.EllipticCurvePublicKey):
        raise CertificateError("the certificate has another kind of key")
    if public_bytes(theirs) != public_bytes(key.public_key()):
        raise CertificateError("the certificate is for another key")
    # Those above it are the ones that this device was given: an answer brings one certificate.
    above = x509.load_pem_x509_certificates(path.read_bytes())[1:]
    trusted = x509.load_pem_x509_certificates((membership / "ca.pem").read_bytes())
    if not _is_issued_by(came, (*above, *trusted)):
        raise CertificateError("the certificate is from another authority")
    whole = b"".join(one.public_bytes(Encoding.PEM) for one in (came, *above))
    _check_loads(whole, membership / "tls.key")
    if came.not_valid_after_utc <= held.not_valid_after_utc:
        return False
    replace_file(path, whole, private=True)
    return True


def _is_issued_by(certificate: x509.Certificate, known: tuple[x509.Certificate, ...]) -> bool:
    for issuer in known:
        with suppress(*UNREADABLE_KEY, InvalidSignature):
            certificate.verify_directly_issued_by(issuer)
            return True
    return False


def _check_loads(pem: bytes, key: Path) -> None:
    """What the TLS library cannot use must not take the place of what it can."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(pem)
        file.flush()
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(file.name, key)
        except (ssl.SSLError, OSError):
            raise CertificateError("the certificate does not fit its key") from None
