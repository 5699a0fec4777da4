"""Memberships: given, replaced, renewed, revoked; and what the registry then says."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from broker.authority import Authority, open_authority
from broker.enrolment import bundle_for, renew_coordinator, renewed, revoke
from config.failures import Failure
from config.sections import Link
from federation.bundle import Bundle
from federation.certificates import (
    CertificateError,
    common_name,
    new_tls_key,
    read_certificate,
    read_key,
    request_certificate,
)
from federation.credentials import verified
from federation.membership import read_membership
from federation.membership_files import write_membership
from tests.authorities import an_authority, now


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with open_authority(an_authority(tmp_path / "authority")) as opened:
        yield opened


def serial(bundle: Bundle) -> int:
    assert bundle.certificate is not None
    return read_certificate(bundle.certificate.encode()).serial_number


def revoked(authority: Authority) -> set[int]:
    crl = x509.load_pem_x509_crl((authority.directory / "crl.pem").read_bytes())
    return {one.serial_number for one in crl}


def least(authority: Authority) -> dict[str, int]:
    found: dict[str, int] = json.loads((authority.directory / "coordinator/least.json").read_text())
    return found


def request(bundle: Bundle, name: str) -> bytes:
    assert bundle.tls_key is not None
    return request_certificate(read_key(bundle.tls_key.encode()), name)


def test_a_bundle_makes_a_membership(authority: Authority, tmp_path: Path) -> None:
    write_membership(tmp_path / "m", bundle_for(authority, "camera-7", now()).files)
    membership = read_membership(tmp_path / "m")
    assert (membership.member.device, membership.epoch) == ("camera-7", 1)
    link = membership.link(Link())
    assert (link.tls, link.port, link.cert_file) == (True, 8883, tmp_path / "m/certificate.pem")


def test_the_certificate_has_the_name_of_the_device_and_the_life_that_was_asked(
    authority: Authority,
) -> None:
    bundle = bundle_for(authority, "camera-7", now(), days=30)
    assert bundle.certificate is not None
    certificate = read_certificate(bundle.certificate.encode())
    assert common_name(certificate.subject) == "camera-7"
    life = certificate.not_valid_after_utc - now()
    assert dt.timedelta(days=29) < life < dt.timedelta(days=31)
    certificate.verify_directly_issued_by(authority.issuer.certificate)


def test_enrolling_again_grows_the_epoch_and_revokes_what_was_given_before(
    authority: Authority,
) -> None:
    first = bundle_for(authority, "a", now())
    second = bundle_for(authority, "a", now())
    assert verified(authority.public_key, second.credential).epoch == 2
    assert revoked(authority) == {serial(first)}
    assert least(authority) == {"a": 2}


def test_revoking_puts_the_certificate_on_the_list_and_outgrows_the_credential(
    authority: Authority,
) -> None:
    bundle, other = bundle_for(authority, "a", now()), bundle_for(authority, "b", now())
    assert revoke(authority, "a", now()).is_revoked
    assert revoked(authority) == {serial(bundle)}
    assert serial(other) not in revoked(authority)
    assert least(authority) == {"a": 2}


def test_revoking_twice_is_as_revoking_once(authority: Authority) -> None:
    bundle_for(authority, "a", now())
    revoke(authority, "a", now())
    changes = authority.registry.changes
    revoke(authority, "a", now())
    assert authority.registry.changes == changes


def test_who_is_enrolled_after_it_was_revoked_is_let_in_again(authority: Authority) -> None:
    bundle_for(authority, "a", now())
    revoke(authority, "a", now())
    again = bundle_for(authority, "a", now())
    held = authority.registry.find("a")
    assert held is not None
    assert (held.is_revoked, held.epoch) == (False, 2)
    assert serial(again) not in revoked(authority)


def test_nobody_can_be_revoked_who_was_not_enrolled(authority: Authority) -> None:
    with pytest.raises(Failure, match="a is not enrolled in flockwise/default"):
        revoke(authority, "a", now())


def test_a_certificate_is_renewed_for_the_same_key(authority: Authority) -> None:
    bundle = bundle_for(authority, "a", now())
    later = now() + dt.timedelta(days=300)
    came = read_certificate(renewed(authority, request(bundle, "a"), "a", later))
    assert came.not_valid_after_utc > later + dt.timedelta(days=364)
    held = authority.registry.find("a")
    assert held is not None
    assert held.serial == came.serial_number


def test_revoking_takes_every_certificate_that_was_renewed(authority: Authority) -> None:
    bundle = bundle_for(authority, "a", now())
    came = read_certificate(renewed(authority, request(bundle, "a"), "a", now()))
    assert revoked(authority) == set()
    revoke(authority, "a", now())
    assert revoked(authority) == {serial(bundle), came.serial_number}


def test_what_is_over_is_left_out_of_the_list(authority: Authority) -> None:
    bundle_for(authority, "a", now(), days=1)
    revoke(authority, "a", now())
    crl = x509.load_pem_x509_crl(authority.crl(now() + dt.timedelta(days=2)))
    assert list(crl) == []


def test_who_is_revoked_gets_no_certificate(authority: Authority) -> None:
    bundle = bundle_for(authority, "a", now())
    revoke(authority, "a", now())
    with pytest.raises(CertificateError, match="a is revoked"):
        renewed(authority, request(bundle, "a"), "a", now())


def test_who_asks_with_another_key_or_name_gets_no_certificate(authority: Authority) -> None:
    bundle = bundle_for(authority, "a", now())
    bundle_for(authority, "b", now())
    with pytest.raises(CertificateError, match="not the enrolled one"):
        renewed(authority, request_certificate(new_tls_key(), "a"), "a", now())
    with pytest.raises(CertificateError, match="another name"):
        renewed(authority, request(bundle, "a"), "b", now())
    with pytest.raises(CertificateError, match="not the enrolled one"):
        renewed(authority, request(bundle, "b"), "b", now())
    with pytest.raises(CertificateError, match="c is not enrolled"):
        renewed(authority, request(bundle, "c"), "c", now())


@pytest.mark.parametrize("came", [b"", b"hello", b"\x30\x03\x02\x01\x01", bytes(70_000)])
def test_what_is_no_request_gets_no_certificate(authority: Authority, came: bytes) -> None:
    bundle_for(authority, "a", now())
    with pytest.raises(CertificateError):
        renewed(authority, came, "a", now())


def test_the_coordinators_certificate_is_renewed_in_its_place(authority: Authority) -> None:
    path = authority.directory / "coordinator/certificate.pem"
    before = path.read_bytes()
    assert not renew_coordinator(authority, now())
    assert renew_coordinator(authority, now() + dt.timedelta(days=250))
    assert path.read_bytes() != before
    read_membership(authority.directory / "coordinator")


def test_with_passwords_there_is_a_password_and_no_certificate(tmp_path: Path) -> None:
    directory = an_authority(tmp_path / "authority", clients="passwords")
    with open_authority(directory) as authority:
        bundle = bundle_for(authority, "a", now())
        held = authority.registry.find("a")
    assert (bundle.certificate, bundle.tls_key, bundle.member.username) == (None, None, "a")
    assert bundle.password is not None
    assert len(bundle.password) == 24
    assert held is not None
    assert held.password is not None
    assert bundle.password not in held.password


def test_who_was_enrolled_again_meanwhile_gets_no_certificate_for_the_former_key(
    authority: Authority,
) -> None:
    bundle_for(authority, "a", now())
    held = authority.registry.find("a")
    assert held is not None
    bundle_for(authority, "a", now())
    with pytest.raises(CertificateError, match="meanwhile"):
        authority.registry.renew(held, 12345, 2**31)
    again = authority.registry.find("a")
    assert again is not None
    assert again.serial != 12345
