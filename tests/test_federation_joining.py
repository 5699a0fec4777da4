"""Joining with a one-time token: good once, with the right secret, at the right place."""

from __future__ import annotations

import io
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.authority import open_authority
from broker.desk import Desk
from config.failures import ExitCode, Failure
from device_agent import joining
from federation.enrolment_token import Token, TokenError, read_token, write_token
from federation.joining import LONGEST_BYTES, join
from federation.membership import read_membership
from federation.membership_files import write_membership
from tests.authorities import an_authority

TOKEN = Token("gateway.example", 40123, "camera-7", b"s" * 16, b"f" * 32)
LONG_S = 30.0


@dataclass
class Opened:
    authority: Path
    desk: Desk
    said: list[str] = field(default_factory=list)
    joined: list[bool] = field(default_factory=list)

    @property
    def token(self) -> Token:
        return self.desk.token

    @property
    def epochs(self) -> list[int]:
        with open_authority(self.authority) as authority:
            return [one.epoch for one in authority.registry.entries() if one.subject]


@contextmanager
def a_desk(directory: Path, seconds: float = LONG_S) -> Iterator[Opened]:
    authority = an_authority(directory / "authority")
    said: list[str] = []
    desk = Desk(authority, "camera-7", 30, ("127.0.0.1", 0), "127.0.0.1", said.append)
    opened = Opened(authority, desk, said)
    thread = threading.Thread(target=lambda: opened.joined.append(desk.serve(seconds)))
    thread.start()
    try:
        yield opened
    finally:
        desk.close()
        thread.join(LONG_S)


def comes_true(condition: Callable[[], bool]) -> bool:
    give_up_s = time.monotonic() + LONG_S
    while not condition() and time.monotonic() < give_up_s:
        time.sleep(0.02)
    return condition()


def test_a_token_is_one_line_that_says_all() -> None:
    text = write_token(TOKEN)
    assert len(text) < 200
    assert text.isprintable()
    assert " " not in text
    assert read_token(f" {text}\n") == TOKEN


def test_a_token_shows_no_secret_in_a_repr() -> None:
    assert "s" * 16 not in repr(TOKEN)


@pytest.mark.parametrize(
    "text", ["", "flockwise1.", "flockwise1.AAAA", "flockwise2.AAAA", "flockwise1." + "A" * 1000]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(TokenError):
        read_token(text)


@given(st.text(max_size=300) | st.binary(max_size=200).map(lambda b: b.hex()))
@settings(deadline=None)
def test_any_text_is_a_token_or_refused(text: str) -> None:
    with pytest.raises(TokenError):
        read_token("flockwise1." + text)


@given(st.integers(0, 400), st.characters())
@settings(deadline=None)
def test_a_damaged_token_is_refused_or_whole(place: int, character: str) -> None:
    text = write_token(TOKEN)
    place %= len(text)
    with suppress(TokenError):
        assert read_token(text[:place] + character + text[place + 1 :]).port > 0


def test_a_device_joins_and_keeps_its_private_keys(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        bundle = join(opened.token)
        assert comes_true(lambda: opened.joined == [True])
    assert opened.said == ["camera-7 has joined, from 127.0.0.1"]
    write_membership(tmp_path / "m", bundle.files)
    assert read_membership(tmp_path / "m").member.device == "camera-7"
    kept = [path.read_bytes() for path in opened.authority.rglob("*") if path.is_file()]
    assert bundle.tls_key is not None
    assert not any(bundle.tls_key.encode() in one for one in kept)
    assert not any(bundle.signing_key.encode() in one for one in kept)


def test_a_token_may_come_by_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with a_desk(tmp_path) as opened:
        monkeypatch.setattr("sys.stdin", io.StringIO(write_token(opened.token) + "\n"))
        assert joining.main(["-", "--state-dir", str(tmp_path / "state")]) == ExitCode.OK
    assert read_membership(tmp_path / "state/membership").member.device == "camera-7"


def test_a_token_is_good_once(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        join(opened.token)
        with pytest.raises(Failure):
            join(opened.token)
    assert opened.epochs == [1]


def test_a_wrong_secret_is_refused_and_told_to_the_operator(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        with pytest.raises(Failure, match="not good here") as caught:
            join(replace(opened.token, secret=bytes(16)))
        assert caught.value.code is ExitCode.CONFIG
        assert opened.said == [
            "refused: somebody at 127.0.0.1 came with a wrong secret for camera-7"
        ]
        assert opened.epochs == []
        join(opened.token)  # it is still good for who has the right one


def test_a_secret_for_another_device_is_refused(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        with pytest.raises(Failure, match="not good here"):
            join(replace(opened.token, device="camera-8"))
        assert opened.epochs == []


def test_who_cannot_show_the_right_certificate_is_told_no_secret(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        with pytest.raises(Failure, match="not who gave the token; nothing was sent"):
            join(replace(opened.token, fingerprint=bytes(32)))
        assert opened.epochs == []


def test_a_token_whose_time_is_over_is_good_no_more(tmp_path: Path) -> None:
    with a_desk(tmp_path, seconds=0.0) as opened:
        assert comes_true(lambda: opened.joined == [False])
    with pytest.raises(Failure, match="good once") as caught:
        join(opened.token, timeout_s=2)
    assert caught.value.code is ExitCode.UNAVAILABLE


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"\x00\x00\x00\x02{}",
        (LONGEST_BYTES + 1).to_bytes(4, "big"),
        b"\xff\xff\xff\xff" + b"x" * 100,
        b"\x00\x00\x00\x64only a part",
        b"\x00\x00\x00\x05\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_no_question_leaves_the_desk_open(tmp_path: Path, sent: bytes) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with a_desk(tmp_path) as opened:
        plain = socket.create_connection(("127.0.0.1", opened.token.port), LONG_S)
        with plain, context.wrap_socket(plain) as link:
            link.sendall(sent)
        join(opened.token)
        assert comes_true(lambda: opened.joined == [True])


def test_who_only_connects_does_not_keep_others_out(tmp_path: Path) -> None:
    with a_desk(tmp_path) as opened:
        idle = [socket.create_connection(("127.0.0.1", opened.token.port)) for _ in range(4)]
        join(opened.token)
        for link in idle:
            link.close()
        assert comes_true(lambda: opened.joined == [True])
