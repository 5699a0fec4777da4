"""A certificate is due after two thirds of its life; a new one takes its place if it is right."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.authority import Authority, open_authority
from broker.certificates import client_certificate, pem
from broker.enrolment import bundle_for, renewed
from federation.certificates import CertificateError, is_due, new_tls_key, read_key, read_request
from federation.membership import read_membership
from federation.membership_files import write_membership
from federation.renewal import due_request, install_certificate
from tests.authorities import an_authority, now

DAY = dt.timedelta(days=1)


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    with open_authority(an_authority(tmp_path / "authority")) as opened:
        yield opened


@pytest.fixture
def membership(authority: Authority, tmp_path: Path) -> Path:
    write_membership(tmp_path / "m", bundle_for(authority, "a", now(), days=90).files)
    return tmp_path / "m"


def test_a_certificate_is_due_after_two_thirds_of_its_life(membership: Path) -> None:
    held = (membership / "certificate.pem").read_bytes()
    assert not is_due(held, now() + 58 * DAY)
    assert is_due(held, now() + 62 * DAY)
    assert is_due(held, now() + 1000 * DAY)


def test_a_clock_that_was_never_set_makes_nothing_due(membership: Path) -> None:
    assert due_request(membership, dt.datetime(1970, 1, 1, tzinfo=dt.UTC)) is None


def test_a_request_is_for_the_same_name_and_key(membership: Path) -> None:
    assert due_request(membership, now()) is None
    asked = due_request(membership, now() + 70 * DAY)
    assert asked is not None
    key = read_key((membership / "tls.key").read_bytes()).public_key()
    assert read_request(asked, "a").public_numbers() == key.public_numbers()


def test_who_logs_in_with_a_password_asks_for_nothing(tmp_path: Path) -> None:
    directory = an_authority(tmp_path / "authority", clients="passwords")
    with open_authority(directory) as authority:
        write_membership(tmp_path / "m", bundle_for(authority, "a", now()).files)
    assert due_request(tmp_path / "m", now() + 4000 * DAY) is None


def test_the_answer_takes_the_place_of_the_old_one(authority: Authority, membership: Path) -> None:
    later = now() + 70 * DAY
    asked = due_request(membership, later)
    assert asked is not None
    answer = renewed(authority, asked, "a", later)
    assert install_certificate(membership, answer)
    assert (membership / "certificate.pem").read_bytes() == answer
    assert (membership / "certificate.pem").stat().st_mode & 0o777 == 0o600
    assert due_request(membership, later) is None
    read_membership(membership)


def test_an_answer_that_is_not_later_is_left_alone(authority: Authority, membership: Path) -> None:
    asked = due_request(membership, now() + 70 * DAY)
    assert asked is not None
    early = renewed(authority, asked, "a", now() - 10 * DAY, days=20)
    before = (membership / "certificate.pem").read_bytes()
    assert not install_certificate(membership, early)
    assert (membership / "certificate.pem").read_bytes() == before


def _answers(authority: Authority, membership: Path, elsewhere: Path) -> dict[str, bytes]:
    key = read_key((membership / "tls.key").read_bytes()).public_key()
    other_key = new_tls_key().public_key()
    with open_authority(an_authority(elsewhere)) as stranger:
        foreign = client_certificate(stranger.issuer, key, "a", now(), 365)
    issuer = authority.issuer
    return {
        "somebody else's": pem(client_certificate(issuer, key, "b", now(), 365)),
        "another key": pem(client_certificate(issuer, other_key, "a", now(), 365)),
        "another authority": pem(foreign),
        "no certificate in PEM": b"hello",
        "cannot be": b"",
    }


def test_what_is_no_certificate_for_this_device_is_refused(
    authority: Authority, membership: Path, tmp_path: Path
) -> None:
    before = (membership / "certificate.pem").read_bytes()
    for reason, answer in _answers(authority, membership, tmp_path / "other").items():
        with pytest.raises(CertificateError, match=reason):
            install_certificate(membership, answer)
    assert (membership / "certificate.pem").read_bytes() == before


@given(st.binary(max_size=300))
@settings(
    deadline=None,
    max_examples=50,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_bytes_are_refused(membership: Path, answer: bytes) -> None:
    with pytest.raises(CertificateError):
        install_certificate(membership, b"-----BEGIN CERTIFICATE-----\n" + answer)


def test_an_answer_brings_nobody_else_to_be_believed(
    authority: Authority, membership: Path, tmp_path: Path
) -> None:
    request = due_request(membership, now() + 70 * DAY)
    assert request is not None
    later = renewed(authority, request, "a", now() + 70 * DAY)
    foreign = (an_authority(tmp_path / "foreign") / "ca.pem").read_bytes()
    assert install_certificate(membership, later + foreign)
    assert foreign not in (membership / "certificate.pem").read_bytes()
