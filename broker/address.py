"""Where a broker may listen and for whom, whether it is free, and whether one answers there."""

from __future__ import annotations

import errno
import ipaddress
import socket
from contextlib import suppress
from dataclasses import dataclass

from config.failures import ExitCode, Failure
from config.settings import BrokerSettings

# MQTT 3.1.1: CONNECT with a clean session, keepalive 60 s and no client id; the CONNACK that
# accepts it; DISCONNECT.
_CONNECT = b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00"
_ACCEPTED = b"\x20\x02\x00\x00"
_DISCONNECT = b"\xe0\x00"


@dataclass(frozen=True, slots=True)
class Address:
    """A numeric IPv4 or IPv6 address and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def reachable(self) -> Address:
        """The address to connect to from this machine: loopback in the place of a wildcard."""
        if not ipaddress.ip_address(self.host).is_unspecified:
            return self
        return Address("::1" if ":" in self.host else "127.0.0.1", self.port)


def listening_address(host: str, port: int, *, loopback_only: bool) -> Address:
    """The free address for these settings; port 0 becomes one that is free.

    A name is resolved once, to IPv4 if it can be, so that every broker listens on the same.
    Raises Failure: CONFIG if the host is not of this machine, or is not loopback where only that
    is allowed; PORT_TAKEN if something listens there.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise Failure(ExitCode.CONFIG, f"broker: host {host!r} is not known ({error})") from error
    found.sort(key=lambda entry: entry[0] != socket.AF_INET)
    family = found[0][0]
    address = Address(str(found[0][4][0]), port)
    if not address.is_loopback and loopback_only:
        raise Failure(
            ExitCode.CONFIG,
            f"broker: {host} can be reached from other machines, and without an authority the"
            " broker asks nobody who they are; make one with `flockwise broker init` and give it"
            " with --authority, or listen on 127.0.0.1",
        )
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address.host, port))
            probe.listen(1)
        except OSError as error:
            raise _refusal(address, error) from error
        return Address(address.host, probe.getsockname()[1])


def require_consent(settings: BrokerSettings) -> None:
    """Raise Failure(CONFIG) for a broker that would let in anybody though nobody asked for that."""
    if settings.authority is None and not settings.insecure:
        raise Failure(
            ExitCode.CONFIG,
            "broker: nobody would be asked who they are; make an authority with `flockwise broker"
            " init` and give it with --authority, or say --insecure for a trial on this machine"
            " alone",
        )


def port_taken(address: Address) -> Failure:
    """The failure to raise where something else listens on the address."""
    return Failure(
        ExitCode.PORT_TAKEN,
        f"broker: {address} is taken by another program; end that, or choose another port",
    )


def accepts_connect(address: Address, timeout_s: float = 1.0) -> bool:
    """Whether an MQTT broker accepts a CONNECT there, now."""
    with suppress(OSError), socket.create_connection((address.host, address.port), timeout_s) as s:
        s.settimeout(timeout_s)
        s.sendall(_CONNECT)
        answer = b""
        while len(answer) < len(_ACCEPTED) and (more := s.recv(len(_ACCEPTED) - len(answer))):
            answer += more
        if answer == _ACCEPTED:
            s.sendall(_DISCONNECT)
            return True
    return False


def _refusal(address: Address, error: OSError) -> Failure:
    if error.errno == errno.EADDRINUSE:
        return port_taken(address)
    return Failure(ExitCode.CONFIG, f"broker: cannot listen on {address} ({error.strerror})")
