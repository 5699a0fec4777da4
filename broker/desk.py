"""The desk where a device joins with a one-time token: a small TLS server that serves it once.

Its certificate is made for this one token and signed by nobody; the token holds its fingerprint.
What comes is bounded in size and time, and the secret is compared in constant time.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import secrets
import socket
import ssl
import tempfile
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import ValidationError

from broker.authority import open_authority
from broker.certificates import new_authority, pem
from broker.enrolment import Admission, admit
from config.failures import ExitCode, Failure, first_line
from federation.bundle import one_line
from federation.certificates import CertificateError, key_pem, new_tls_key, read_request
from federation.enrolment_token import SECRET_BYTES, Token
from federation.joining import Answer, ExchangeError, Question, receive, send

_ASK_S = 10.0
_AT_ONCE = 8
_LOOK_S = 0.2


class Desk:
    """One token and the socket at which it is good."""

    def __init__(
        self,
        authority: Path,
        device: str,
        days: float,
        listen: tuple[str, int],
        reached_at: str,
        say: Callable[[str], None],
    ) -> None:
        """Listen; what to show to people is in `token`.

        Args:
            authority: its directory.
            reached_at: the name or address that the device is told.
            say: takes a line for the operator.

        Raises:
            Failure: it cannot listen there.
        """
        self._authority = authority
        self._days = days
        self._say = say
        self._admitting = threading.Lock()
        self._is_given = False
        self._ending = threading.Event()
        self._context, fingerprint = _ephemeral_context()
        try:
            family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
            self._socket = socket.create_server(listen, family=family, backlog=_AT_ONCE)
        except OSError as error:
            raise Failure(
                ExitCode.CONFIG, f"enroll: cannot listen on {listen[0]}:{listen[1]} ({error})"
            ) from error
        secret = secrets.token_bytes(SECRET_BYTES)
        port = self._socket.getsockname()[1]
        self.token = Token(reached_at, port, device, secret, fingerprint)

    def serve(self, seconds: float) -> bool:
        """Serve until the device has joined or the time is over; whether it has joined."""
        end_s = time.monotonic() + seconds
        slots = threading.Semaphore(_AT_ONCE)
        self._socket.settimeout(_LOOK_S)
        with self._socket, ThreadPoolExecutor(_AT_ONCE) as pool:
            while not self._is_over(end_s):
                try:
                    plain, (host, *_) = self._socket.accept()
                except TimeoutError:
                    continue
                if slots.acquire(blocking=False):
                    pool.submit(self._attend, plain, str(host), slots)
                else:
                    plain.close()
        return self._is_given

    def close(self) -> None:
        """End before the time."""
        self._ending.set()

    def _is_over(self, end_s: float) -> bool:
        return self._is_given or self._ending.is_set() or time.monotonic() >= end_s

    def _attend(self, plain: socket.socket, host: str, slots: threading.Semaphore) -> None:
        try:
            plain.settimeout(_ASK_S)
            with plain, self._context.wrap_socket(plain, server_side=True) as link:
                question = Question.model_validate_json(receive(link, _ASK_S))
                send(link, self._answer(question, host))
        except (OSError, ExchangeError, ValidationError) as error:
            self._say(f"somebody at {host} sent no question that can be answered ({_brief(error)})")
        except Failure as failure:
            self._say(failure.message)
        finally:
            slots.release()

    def _answer(self, question: Question, host: str) -> Answer:
        token = self.token
        is_right = hmac.compare_digest(question.secret, token.secret)
        if not is_right or question.device != token.device:
            self._say(f"refused: somebody at {host} came with a wrong secret for {token.device}")
            return Answer(kind="refused", reason="the token is not good here")
        try:
            key = read_request(question.request, token.device)
        except CertificateError as error:
            return Answer(kind="refused", reason=str(error))
        with self._admitting:
            if self._is_given:
                self._say(f"refused: somebody at {host} came with a token that was used before")
                return Answer(kind="refused", reason="the token was used already")
            with open_authority(self._authority) as authority:
                now = dt.datetime.now(dt.UTC)
                given = admit(authority, token.device, key, question.signing_key, now, self._days)
            self._is_given = True
        self._say(f"{token.device} has joined, from {host}")
        return _joined(given)


def _joined(given: Admission) -> Answer:
    return Answer(
        kind="joined",
        member=given.member,
        credential=b64encode(given.credential),
        ca=given.ca.decode(),
        certificate=given.certificate.decode() if given.certificate else None,
        password=given.password,
    )


def _ephemeral_context() -> tuple[ssl.SSLContext, bytes]:
    """A TLS context with a certificate of its own, and that one's fingerprint."""
    key = new_tls_key()
    certificate = new_authority(key, "enrolment", dt.datetime.now(dt.UTC)).certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    with tempfile.NamedTemporaryFile() as file:  # 0600; the library reads only files
        file.write(pem(certificate) + key_pem(key))
        file.flush()
        context.load_cert_chain(file.name)
    return context, hashlib.sha256(certificate.public_bytes(Encoding.DER)).digest()


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        return one_line(error)
    return first_line(error)[:100]
