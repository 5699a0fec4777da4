"""Memberships: read whole or not at all, and each thing that is wrong with one is said."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from config.failures import ExitCode, Failure
from config.sections import FederationName, Link
from config.settings import AgentSettings, CoordinatorSettings
from federation.envelope import EnvelopeError
from federation.machine import Publish
from federation.membership import FOLDER, Membership, find_membership, read_membership
from federation.messages import encode
from federation.topics import Topics
from tests.members import Authority
from tests.specimens import an_offer

TOPICS = Topics("flockwise", "test")
AUTHORITY = Authority(TOPICS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The membership of the device `one`."""
    made = tmp_path / "state" / FOLDER
    AUTHORITY.membership(made, "one", port=8883)
    return made


def refusal(folder: Path) -> str:
    with pytest.raises(Failure) as caught:
        read_membership(folder)
    assert caught.value.code is ExitCode.CONFIG
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def change(folder: Path, **fields: Any) -> Membership:
    """Write something else into member.json, and read the membership again."""
    path = folder / "member.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    if fields.get("tls"):
        shown = ("password",) if "username" in fields else ("certificate.pem", "tls.key")
        for name in ("ca.pem", *shown):
            (folder / name).touch(mode=0o600)
    return read_membership(folder)


def pem(key: Any) -> bytes:
    made: bytes = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return made


def agent(**settings: Any) -> AgentSettings:
    return AgentSettings(device="one", chunk=Path("chunk"), **settings)


# Read


def test_what_an_authority_gave_out_can_be_used(folder: Path) -> None:
    membership = read_membership(folder)
    assert (membership.topics, membership.epoch) == (TOPICS, 1)
    offer = Publish(TOPICS.up("one"), encode(an_offer()))
    signed = membership.signer.sign(offer).payload
    assert AUTHORITY.verifier().read(offer.topic, signed)[0] == offer.payload
    assert membership.verifier().read(offer.topic, signed)[0] == offer.payload


@pytest.mark.parametrize("name", ["member.json", "credential", "signing.key"])
def test_a_file_that_is_missing_is_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    told = refusal(folder)
    assert str(folder / name) in told
    assert "No such file" in told


@pytest.mark.parametrize("name", ["member.json", "credential", "signing.key"])
@pytest.mark.parametrize("content", [b"", b"junk", b"\0" * 300_000])
def test_a_file_that_is_damaged_is_named(folder: Path, name: str, content: bytes) -> None:
    (folder / name).write_bytes(content)
    assert str(folder / name) in refusal(folder)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 2),
        ("device", "ONE"),
        ("port", 0),
        ("authority", "AAAA"),
        ("tls", "perhaps"),
        ("more", 1),
        ("federation", {"prefix": "+", "name": "x"}),
    ],
)
def test_a_field_that_is_not_what_it_should_be_is_named(
    folder: Path, field: str, value: object
) -> None:
    with pytest.raises(Failure, match=f"member.json cannot be used: {field}"):
        change(folder, **{field: value})


@pytest.mark.parametrize(
    "whose", [{"device": "two"}, {"federation": {"prefix": "flockwise", "name": "other"}}]
)
def test_a_credential_of_another_device_or_federation_is_refused(
    folder: Path, whose: dict[str, Any]
) -> None:
    with pytest.raises(Failure, match="credential cannot be used: it is somebody else's"):
        change(folder, **whose)


def test_a_credential_of_another_authority_is_refused(folder: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (folder / "credential").write_bytes(Authority(TOPICS).credential("one", key))
    assert "is not of this federation's authority" in refusal(folder)


def test_a_key_that_is_not_the_one_of_the_credential_is_refused(folder: Path) -> None:
    (folder / "signing.key").write_bytes(pem(Ed25519PrivateKey.generate()))
    assert "it is not the key that the credential names" in refusal(folder)


def test_a_key_of_another_kind_is_refused(folder: Path) -> None:
    (folder / "signing.key").write_bytes(pem(generate_private_key(SECP256R1())))
    assert "it is no Ed25519 key" in refusal(folder)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_may_read_is_refused(folder: Path, mode: int) -> None:
    (folder / "signing.key").chmod(mode)
    assert "others may read it; chmod 600 it" in refusal(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_key_that_may_not_be_read_is_named(folder: Path) -> None:
    (folder / "signing.key").chmod(0)
    assert "Permission denied" in refusal(folder)


def test_no_secret_is_in_what_is_told(folder: Path) -> None:
    key = (folder / "signing.key").read_text().splitlines()[1]
    (folder / "member.json").write_text(key)
    assert key not in refusal(folder)


# Found


def test_a_membership_lies_in_the_state_directory(folder: Path) -> None:
    found = find_membership(None, folder.parent, insecure=False, how="join")
    assert found is not None
    assert found.folder == folder


def test_one_that_is_there_is_used_though_none_is_needed(folder: Path) -> None:
    assert find_membership(None, folder.parent, insecure=True, how="join") is not None


def test_a_damaged_one_is_not_passed_over_though_none_is_needed(folder: Path) -> None:
    (folder / "credential").unlink()
    with pytest.raises(Failure):
        find_membership(None, folder.parent, insecure=True, how="join")


def test_one_that_was_chosen_has_to_be_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        find_membership(tmp_path / "nowhere", tmp_path, insecure=True, how="join")


def test_without_one_a_role_goes_on_only_if_that_is_allowed(tmp_path: Path) -> None:
    assert find_membership(None, tmp_path, insecure=True, how="join") is None
    with pytest.raises(Failure, match="get one with `flockwise agent join`, or say --insecure"):
        find_membership(None, tmp_path, insecure=False, how="flockwise agent join")


# What it says of the broker


def test_the_link_is_filled_in(folder: Path) -> None:
    link = change(folder, tls=False, host="gateway").link(Link())
    assert (link.host, link.port, link.tls, link.ca_file) == ("gateway", 8883, False, None)


def test_with_tls_it_shows_its_certificate(folder: Path) -> None:
    link = change(folder, tls=True).link(Link())
    assert (link.tls, link.ca_file) == (True, folder / "ca.pem")
    assert (link.cert_file, link.key_file) == (folder / "certificate.pem", folder / "tls.key")
    assert (link.username, link.password_file) == (None, None)


def test_with_a_password_it_logs_in_by_that(folder: Path) -> None:
    link = change(folder, tls=True, username="one").link(Link())
    assert (link.username, link.password_file) == ("one", folder / "password")
    assert (link.cert_file, link.key_file) == (None, None)


def test_what_was_set_by_hand_stays(folder: Path) -> None:
    membership = change(folder, tls=True, username="one")
    link = membership.link(Link(host="other", port=1, username="me", password="secret"))
    assert (link.host, link.port, link.username) == ("other", 1, "me")
    assert link.password is not None
    assert link.password_file is None


def test_tls_cannot_be_turned_off_by_hand(folder: Path) -> None:
    link = change(folder, tls=True).link(Link(tls=False))
    assert (link.tls, link.ca_file) == (True, folder / "ca.pem")


# What it says of the role


def test_settings_are_completed(folder: Path) -> None:
    membership = change(folder, tls=False)
    settings = membership.completed(agent(membership=folder))
    assert settings.federation == FederationName(prefix="flockwise", name="test")
    assert settings.link.port == 8883


def test_a_membership_of_another_device_is_not_used(folder: Path) -> None:
    with pytest.raises(Failure, match="it is of one, and not of two"):
        read_membership(folder).completed(AgentSettings(device="two", chunk=Path("chunk")))


def test_a_membership_of_a_device_is_none_for_the_coordinator(folder: Path) -> None:
    with pytest.raises(Failure, match="it is of one, and not of the coordinator"):
        read_membership(folder).completed(CoordinatorSettings())


def test_the_coordinator_s_membership_is_none_for_a_device(tmp_path: Path) -> None:
    membership = AUTHORITY.membership(tmp_path / "membership")
    with pytest.raises(Failure, match="it is the coordinator's, and not of one"):
        membership.completed(agent())


def test_settings_for_another_federation_are_refused(folder: Path) -> None:
    named = FederationName(name="other")
    with pytest.raises(Failure, match="for the federation flockwise/test, not flockwise/other"):
        read_membership(folder).completed(agent(federation=named))


# Who is believed no more


def is_believed(membership: Membership, least: dict[str, int] | None = None) -> bool:
    offer = Publish(TOPICS.up("one"), encode(an_offer()))
    signed = membership.signer.sign(offer).payload
    try:
        membership.verifier(least).read(offer.topic, signed)[0]
    except EnvelopeError:
        return False
    return True


def test_a_credential_that_was_revoked_is_not_believed(folder: Path) -> None:
    membership = read_membership(folder)
    (folder / "least.json").write_text('{"two": 2}')
    assert is_believed(membership)
    (folder / "least.json").write_text('{"one": 2}')
    assert not is_believed(membership)


def test_the_later_of_two_epochs_counts(folder: Path) -> None:
    membership = read_membership(folder)
    (folder / "least.json").write_text('{"one": 2}')
    assert not is_believed(membership, {"one": 1})
    (folder / "least.json").write_text('{"one": 1}')
    assert is_believed(membership, {"one": 1})
    assert not is_believed(membership, {"one": 2})


def test_a_revocation_is_heard_of_while_the_role_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("federation.membership.LOOK_EVERY_S", 0.0)
    verifier = read_membership(folder).verifier()
    offer = Publish(TOPICS.up("one"), encode(an_offer()))
    signed = read_membership(folder).signer.sign(offer).payload
    assert verifier.read(offer.topic, signed)[0]
    (folder / "least.json").write_text('{"one": 2}')
    with pytest.raises(EnvelopeError, match="replaced or revoked"):
        verifier.read(offer.topic, signed)[0]
    (folder / "least.json").write_text("half of a f")
    with pytest.raises(EnvelopeError, match="replaced or revoked"):
        verifier.read(offer.topic, signed)[0]


@pytest.mark.parametrize("content", ["", "[]", '{"one": -1}', '{"one": "two"}', "null"])
def test_a_list_of_epochs_that_is_damaged_is_not_passed_over(folder: Path, content: str) -> None:
    membership = read_membership(folder)
    (folder / "least.json").write_text(content)
    with pytest.raises(Failure, match=r"least\.json cannot be used"):
        membership.verifier()


@pytest.mark.parametrize("name", ["ca.pem", "certificate.pem", "tls.key"])
def test_what_tls_needs_has_to_be_there(folder: Path, name: str) -> None:
    change(folder, tls=True)
    (folder / name).unlink()
    with pytest.raises(Failure, match=f"{name} cannot be used: No such file"):
        read_membership(folder)


def test_no_key_may_be_read_by_others(folder: Path) -> None:
    change(folder, tls=True)
    (folder / "tls.key").chmod(0o644)
    with pytest.raises(Failure, match=r"tls\.key cannot be used: others may read it"):
        read_membership(folder)
