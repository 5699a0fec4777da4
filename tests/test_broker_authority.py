"""An authority comes to be whole, for its owner alone, and is never overwritten."""

from __future__ import annotations

import datetime as dt
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from broker.authority import open_authority
from broker.certificates import hosts_of, new_authority, pem
from broker.founding import Plan, found
from config.failures import ExitCode, Failure
from federation.certificates import key_pem, named, new_tls_key, read_certificate
from federation.membership import read_membership
from tests.authorities import an_authority, description, now


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def self_signed(key: rsa.RSAPrivateKey, *, ca: bool, days: int = 100) -> bytes:
    builder = x509.CertificateBuilder().subject_name(named("Ours")).issuer_name(named("Ours"))
    builder = builder.public_key(key.public_key()).serial_number(7)
    builder = builder.not_valid_before(now() - dt.timedelta(days=500))
    builder = builder.not_valid_after(now() + dt.timedelta(days=days))
    builder = builder.add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    return pem(builder.sign(key, hashes.SHA256()))


def rsa_pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


def test_nobody_else_may_read_what_is_in_it(tmp_path: Path) -> None:
    directory = an_authority(tmp_path / "authority")
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert {path.name for path in files} >= {"ca.key", "authority.key", "server.pem", "tls.key"}
    assert {mode(path) for path in files} == {0o600}
    assert {mode(path) for path in (directory, directory / "coordinator")} == {0o700}


def test_the_coordinators_membership_is_a_membership(tmp_path: Path) -> None:
    directory = an_authority(tmp_path / "authority")
    membership = read_membership(directory / "coordinator")
    assert membership.member.device == ""
    assert membership.member.host == "127.0.0.1"
    with open_authority(directory) as authority:
        assert membership.member.authority == authority.public_key


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    directory = an_authority(tmp_path / "authority")
    before = (directory / "ca.key").read_bytes()
    with pytest.raises(Failure, match="never overwritten") as caught:
        an_authority(directory)
    assert caught.value.code is ExitCode.CONFIG
    assert (directory / "ca.key").read_bytes() == before


def test_an_authority_that_could_not_be_made_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(Failure):
        found(tmp_path / "authority", Plan(description(), ca=(b"no", b"CA")), now())
    assert list(tmp_path.iterdir()) == []


def test_where_there_is_none_it_is_said_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="flockwise broker init"):
        open_authority(tmp_path)


def test_its_certificate_is_that_of_a_ca_for_ten_years(tmp_path: Path) -> None:
    ca = read_certificate((an_authority(tmp_path / "a") / "ca.pem").read_bytes())
    assert ca.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert ca.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    assert isinstance(ca.public_key(), ec.EllipticCurvePublicKey)
    assert ca.not_valid_after_utc - now() > dt.timedelta(days=3649)
    assert ca.not_valid_before_utc < now() - dt.timedelta(hours=23)


def test_the_brokers_certificate_is_for_its_hosts_and_for_this_machine(tmp_path: Path) -> None:
    server = read_certificate((an_authority(tmp_path / "a") / "server.pem").read_bytes())
    assert set(hosts_of(server)) == {"127.0.0.1", "localhost", "::1"}


def test_the_brokers_certificate_is_renewed_when_two_thirds_are_over(tmp_path: Path) -> None:
    with open_authority(an_authority(tmp_path / "a")) as authority:
        assert not authority.renew_server(now() + dt.timedelta(days=55))
        assert authority.renew_server(now() + dt.timedelta(days=65))
        assert not authority.renew_server(now() + dt.timedelta(days=65))


def test_the_brokers_certificate_is_made_anew_for_another_name(tmp_path: Path) -> None:
    with open_authority(an_authority(tmp_path / "a")) as authority:
        assert authority.renew_server(now(), ("192.0.2.7",))
        server = read_certificate((authority.directory / "server.pem").read_bytes())
    assert "192.0.2.7" in hosts_of(server)


def test_the_list_of_the_revoked_is_good_until_the_end_of_the_ca(tmp_path: Path) -> None:
    with open_authority(an_authority(tmp_path / "a")) as authority:
        crl = x509.load_pem_x509_crl(authority.crl(now()))
        assert crl.next_update_utc == authority.issuer.certificate.not_valid_after_utc
        assert crl.last_update_utc < now()
        assert list(crl) == []


def test_a_ca_of_ones_own_is_used(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    ca = self_signed(rsa_key, ca=True), rsa_pem(rsa_key)
    found(tmp_path / "a", Plan(description(), ca=ca), now())
    server = read_certificate((tmp_path / "a" / "server.pem").read_bytes())
    server.verify_directly_issued_by(read_certificate(ca[0]))
    assert server.not_valid_after_utc <= read_certificate(ca[0]).not_valid_after_utc


def test_what_brokers_would_not_take_for_a_ca_is_refused(
    tmp_path: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    other = new_tls_key()
    below = new_authority(other, "Below", now()).certificate
    wrong = {
        "not that of a CA": (self_signed(rsa_key, ca=False), rsa_pem(rsa_key)),
        "has ended": (self_signed(rsa_key, ca=True, days=-2), rsa_pem(rsa_key)),
        "is not the key of its certificate": (self_signed(rsa_key, ca=True), key_pem(other)),
        "no private key in PEM": (pem(below), b"hello"),
    }
    for reason, ca in wrong.items():
        with pytest.raises(Failure, match=reason) as caught:
            found(tmp_path / "a", Plan(description(), ca=ca), now())
        assert caught.value.code is ExitCode.CONFIG
        assert "\n" not in caught.value.message


def test_an_encrypted_key_is_told_as_such(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption  # noqa: PLC0415

    locked = rsa_key.private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"sesame")
    )
    with pytest.raises(Failure, match="is encrypted"):
        found(
            tmp_path / "a", Plan(description(), ca=(self_signed(rsa_key, ca=True), locked)), now()
        )


def test_a_broker_that_others_run_is_believed_by_its_own_ca(tmp_path: Path) -> None:
    theirs = pem(new_authority(new_tls_key(), "Provider", now()).certificate)
    plan = Plan(description(clients="passwords"), broker_ca=theirs)
    found(tmp_path / "a", plan, now())
    assert (tmp_path / "a" / "coordinator" / "ca.pem").read_bytes() == theirs
    with open_authority(tmp_path / "a") as authority:
        assert not authority.is_ours


@pytest.mark.parametrize(
    ("name", "text"),
    [("authority.json", "{}"), ("ca.key", "x"), ("authority.key", "x"), ("ca.pem", "")],
)
def test_a_file_that_is_not_what_it_should_be_is_told_in_one_line(
    tmp_path: Path, name: str, text: str
) -> None:
    directory = an_authority(tmp_path / "a")
    (directory / name).write_text(text)
    with pytest.raises(Failure) as caught:
        open_authority(directory)
    assert "\n" not in caught.value.message
