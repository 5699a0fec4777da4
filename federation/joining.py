"""How a device joins with a one-time token: it makes its keys, and sends only what is public.

One question and one answer over TLS, each a length of four bytes and JSON of at most 64 KiB. The
certificate of the other side is believed by its fingerprint, which the token holds; only then the
secret is sent.
"""

from __future__ import annotations

import hashlib
import hmac
import socket
import ssl
import time
from base64 import b64encode
from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, ValidationError, model_validator

from config.failures import ExitCode, Failure
from config.values import Identifier
from federation.bundle import Bundle, Password, Pem, one_line
from federation.certificates import key_pem, new_tls_key, request_certificate
from federation.enrolment_token import SECRET_BYTES, Token
from federation.membership import Member

TIMEOUT_S = 20.0
LONGEST_BYTES = 64 * 1024


class ExchangeError(ValueError):
    """What the other side sent is no question or answer; one line."""


class Question(BaseModel):
    """What a device sends to join: its secret, and the public parts of its keys.

    Attributes:
        request: for a certificate, DER.
        signing_key: Ed25519 public key.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["join"]
    device: Identifier
    secret: Annotated[Base64Bytes, Field(min_length=SECRET_BYTES, max_length=SECRET_BYTES)] = Field(
        repr=False
    )
    request: Annotated[Base64Bytes, Field(min_length=1, max_length=8192)]
    signing_key: Annotated[Base64Bytes, Field(min_length=32, max_length=32)]


class Answer(BaseModel):
    """What it gets: all of a membership but the private keys; or why it gets none."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kind: Literal["joined", "refused"]
    reason: Annotated[str, Field(max_length=200)] = ""
    member: Member | None = None
    credential: Annotated[Base64Bytes, Field(max_length=1024)] = b""
    ca: Pem | None = None
    certificate: Pem | None = None
    password: Password | None = Field(default=None, repr=False)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.kind == "joined" and (self.member is None or not self.credential):
            raise ValueError("an answer without a membership")
        return self


def join(token: Token, timeout_s: float = TIMEOUT_S) -> Bundle:
    """Join with a token; the membership, whose keys were made here.

    Raises:
        Failure: nobody is there, it is not who the token names, or it refuses.
    """
    tls_key, signing_key = new_tls_key(), Ed25519PrivateKey.generate()
    question = Question(
        kind="join",
        device=token.device,
        secret=b64encode(token.secret),
        request=b64encode(request_certificate(tls_key, token.device)),
        signing_key=b64encode(signing_key.public_key().public_bytes_raw()),
    )
    where = f"{token.host}:{token.port}"
    try:
        answer = _ask(token, question, timeout_s)
    except ExchangeError as error:
        raise Failure(ExitCode.CONFIG, f"join: {where}: {error}") from None
    except (OSError, ssl.SSLError) as error:
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"join: nobody gives a membership at {where} ({error}); a token is good once, and only"
            " while flockwise broker enroll --token runs",
        ) from None
    if answer.kind == "refused" or answer.member is None:
        raise Failure(ExitCode.CONFIG, f"join: {where} refuses: {answer.reason or 'no reason'}")
    pem = signing_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    try:
        bundle = Bundle(
            kind="flockwise membership",
            member=answer.member,
            credential=b64encode(answer.credential),
            signing_key=pem,
            ca=answer.ca,
            certificate=answer.certificate,
            tls_key=key_pem(tls_key).decode() if answer.certificate else None,
            password=answer.password,
        )
    except ValidationError as error:
        raise Failure(ExitCode.CONFIG, f"join: {where}: {one_line(error)}") from None
    if bundle.member.device != token.device:
        raise Failure(ExitCode.CONFIG, f"join: {where} gave a membership of another device")
    return bundle


def send(link: socket.socket, message: BaseModel) -> None:
    """Send a question or an answer."""
    data = message.model_dump_json(exclude_none=True).encode()
    link.sendall(len(data).to_bytes(4, "big") + data)


def receive(link: socket.socket, timeout_s: float) -> bytes:
    """What the other side sends, as far as it may; all of it has to come in this time.

    Raises:
        ExchangeError: it is too much, or not all of it came.
        OSError: the link broke, or the time is over.
    """
    end_s = time.monotonic() + timeout_s
    size = int.from_bytes(_exactly(link, 4, end_s), "big")
    if size > LONGEST_BYTES:
        raise ExchangeError(f"{size} bytes are too many")
    return _exactly(link, size, end_s)


def _exactly(link: socket.socket, size: int, end_s: float) -> bytes:
    data = b""
    while len(data) < size:
        link.settimeout(max(0.001, end_s - time.monotonic()))
        more = link.recv(min(size - len(data), 16384))
        if not more:
            raise ExchangeError("the other side has hung up")
        data += more
    return data


def _ask(token: Token, question: Question, timeout_s: float) -> Answer:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # the fingerprint is looked at instead, below
    with (
        socket.create_connection((token.host, token.port), timeout_s) as plain,
        context.wrap_socket(plain) as link,
    ):
        shown = hashlib.sha256(link.getpeercert(binary_form=True) or b"").digest()
        if not hmac.compare_digest(shown, token.fingerprint):
            raise ExchangeError("it is not who gave the token; nothing was sent")
        send(link, question)
        try:
            return Answer.model_validate_json(receive(link, timeout_s))
        except ValidationError as error:
            raise ExchangeError(one_line(error)) from None
