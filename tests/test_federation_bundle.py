"""A bundle holds a whole membership, or is refused in one line that shows no secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.authority import open_authority
from broker.enrolment import bundle_for
from federation.bundle import LONGEST_BYTES, BundleError, read_bundle, write_bundle
from federation.certificates import key_pem, new_tls_key
from tests.authorities import an_authority, now

Fields = dict[str, Any]


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    directory = an_authority(tmp_path_factory.mktemp("bundle") / "authority")
    with open_authority(directory) as authority:
        return write_bundle(bundle_for(authority, "camera-7", now()))


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Fields:
    directory = an_authority(tmp_path_factory.mktemp("others") / "authority")
    with open_authority(directory) as authority:
        made: Fields = json.loads(write_bundle(bundle_for(authority, "camera-7", now())))
    return made


def test_what_is_written_is_read_again(carried: bytes) -> None:
    assert write_bundle(read_bundle(carried)) == carried


def test_its_files_are_those_of_a_membership(carried: bytes) -> None:
    assert set(read_bundle(carried).files) == {
        "member.json",
        "credential",
        "signing.key",
        "ca.pem",
        "certificate.pem",
        "tls.key",
    }


def test_it_is_small(carried: bytes) -> None:
    assert len(carried) < 8192


def _drop(name: str) -> Callable[[Fields, Fields], None]:
    def change(fields: Fields, others: Fields) -> None:
        del fields[name]

    return change


def _take(name: str) -> Callable[[Fields, Fields], None]:
    def change(fields: Fields, others: Fields) -> None:
        fields[name] = others[name]

    return change


def _put(name: str, value: object) -> Callable[[Fields, Fields], None]:
    def change(fields: Fields, others: Fields) -> None:
        fields[name] = value

    return change


def _member(name: str, value: object) -> Callable[[Fields, Fields], None]:
    def change(fields: Fields, others: Fields) -> None:
        fields["member"][name] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        _drop("kind"),
        _drop("member"),
        _drop("credential"),
        _drop("signing_key"),
        _drop("ca"),
        _drop("certificate"),
        _drop("tls_key"),
        _take("credential"),
        _take("signing_key"),
        _take("certificate"),
        _take("tls_key"),
        _put("kind", "something else"),
        _put("more", 1),
        _put("password", "sesame"),
        _put("ca", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
        _put("certificate", "-----BEGIN nothing"),
        _put("signing_key", key_pem(new_tls_key()).decode()),
        _put("tls_key", key_pem(new_tls_key()).decode()),
        _put("ca", "-----BEGIN " + "x" * 70_000),
        _member("device", "camera-8"),
        _member("device", "../camera-7"),
        _member("device", ""),
        _member("format", 2),
        _member("port", 0),
        _member("tls", False),
        _member("username", "camera-7"),
        _member("authority", "AAAA"),
        _member("federation", {"prefix": "#", "name": "default"}),
    ],
)
def test_what_does_not_hold_together_is_refused_in_one_line(
    carried: bytes, others: Fields, change: Callable[[Fields, Fields], None]
) -> None:
    fields = json.loads(carried)
    change(fields, others)
    with pytest.raises(BundleError) as caught:
        read_bundle(json.dumps(fields).encode())
    assert "\n" not in str(caught.value)
    assert "PRIVATE" not in str(caught.value)
    assert len(str(caught.value)) <= 200


def test_what_is_too_long_is_refused_unread() -> None:
    with pytest.raises(BundleError, match="too many"):
        read_bundle(b"[" * (LONGEST_BYTES + 1))


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b"\xff", b"[" * 10_000, b'{"kind":1}']
)
def test_what_is_no_bundle_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        read_bundle(data)


@given(st.data())
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_a_bundle_with_altered_bytes_is_read_or_refused(
    carried: bytes, data: st.DataObject
) -> None:
    altered = bytearray(carried)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(altered) - 1))
        altered[place] = data.draw(st.integers(0, 255))
    with suppress(BundleError):
        assert read_bundle(bytes(altered)).member.format == 1


@given(st.recursive(st.none() | st.text(max_size=20) | st.integers(), st.lists, max_leaves=8))
@settings(deadline=None, max_examples=100)
def test_any_value_in_any_place_is_read_or_refused(carried: bytes, value: object) -> None:
    for name in ("member", "credential", "signing_key", "ca", "certificate", "tls_key"):
        fields = json.loads(carried)
        fields[name] = value
        with pytest.raises(BundleError):
            read_bundle(json.dumps(fields).encode())


def test_no_secret_shows_in_a_repr(carried: bytes) -> None:
    assert "PRIVATE" not in repr(read_bundle(carried))
