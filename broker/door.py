"""Knocking at a broker with TLS: does it serve; and taking a client's place, which ends the client.

The certificates for it are made for a minute and kept nowhere else.
"""

from __future__ import annotations

import datetime as dt
import socket
import ssl
import tempfile
from contextlib import suppress
from pathlib import Path

from broker.address import Address
from broker.authority import Authority
from broker.certificates import client_certificate, pem
from federation.certificates import AUTHORITY_NAME, key_pem, new_tls_key

_MINUTE = 1 / 1440
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"


def serves(authority: Authority, address: Address) -> bool:
    """Whether a broker with a certificate of this authority answers there, now."""
    answer = _knock(authority, address, AUTHORITY_NAME)
    by_certificate = authority.description.clients == "certificates"
    return answer == _ACCEPTED if by_certificate else len(answer) == len(_ACCEPTED)


def end_connection(authority: Authority, address: Address, name: str) -> bool:
    """End the connection of a client, whoever holds it: its id is taken over, then given up.

    Returns whether the broker let us. It has to be done before the broker shuts the name out, that
    it still publishes the client's will, and after, for one that came back in between.
    """
    return _knock(authority, address, name) == _ACCEPTED


def context_for(authority: Authority, name: str, directory: Path, days: float) -> ssl.SSLContext:
    """A TLS context that shows a certificate under this name; files go to `directory`."""
    context = ssl.create_default_context(cadata=authority.chain.decode())
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False  # it is this machine, under whatever address
    context.load_cert_chain(*write_identity(authority, name, directory, days))
    return context


def write_identity(
    authority: Authority, name: str, directory: Path, days: float
) -> tuple[Path, Path]:
    """A certificate under this name and its key, as two files in a private directory."""
    key = new_tls_key()
    now = dt.datetime.now(dt.UTC)
    certificate = client_certificate(authority.issuer, key.public_key(), name, now, days)
    paths = directory / "certificate.pem", directory / "tls.key"
    for path, data in zip(paths, (pem(certificate) + authority.chain, key_pem(key)), strict=True):
        path.touch(mode=0o600)
        path.write_bytes(data)
    return paths


def _knock(authority: Authority, address: Address, name: str, timeout_s: float = 3.0) -> bytes:
    """What the broker answers to a CONNECT; nothing if it does not."""
    answer = b""
    with (
        suppress(OSError),
        tempfile.TemporaryDirectory(prefix="flockwise-") as directory,
        socket.create_connection((address.host, address.port), timeout_s) as plain,
        context_for(authority, name, Path(directory), _MINUTE).wrap_socket(plain) as link,
    ):
        link.sendall(_CONNECT)
        while len(answer) < len(_ACCEPTED) and (more := link.recv(len(_ACCEPTED) - len(answer))):
            answer += more
        if answer == _ACCEPTED:
            link.sendall(_DISCONNECT)
    return answer
