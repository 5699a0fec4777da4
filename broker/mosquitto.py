"""mosquitto: where its program is, and the configuration that is made for it from settings.

The configuration is data to text, and every limit in it has its reason beside it. Nothing is
persistent, and what one slow client can make the broker hold is bounded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

# Distributions install the program where only root's PATH looks.
_MORE_PATHS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/opt/mosquitto")

_TEMPLATE = """\
# Made by Flockwise from its settings, anew at each start.

listener {port} {host}
{access}
# Devices and coordinator remember; the broker forgets.
persistence false
retain_available true

# Twice the largest chunk that the settings allow. Who sends more is cut off before the broker
# makes room for it: message_size_limit would first read up to 256 MiB.
max_packet_size 2097152

# What the broker holds for one client that does not read; more is dropped, and asked for again
# by the ends. QoS 0 (chunks) is limited by max_queued_messages alone: 256 of 120 KiB are 30 MiB.
# QoS 1 (small messages) may be under way by the thousand, as when a whole fleet says hello to a
# coordinator, but not by the megabyte.
max_inflight_messages 1000
max_inflight_bytes 4194304
max_queued_messages 256
max_queued_bytes 16777216

# Small messages leave at once and do not wait for the ACK of the chunk before them.
set_tcp_nodelay true

# Nothing reads the broker's own statistics.
sys_interval 0
log_dest stderr
{log}"""

_ANYBODY = """\
# Whoever reaches the address may use it: for a trial on this machine alone.
allow_anonymous true
"""

_SECURED = """\
allow_anonymous false
acl_file {files}/acl
tls_version tlsv1.2
certfile {files}/server.pem
keyfile {files}/server.pem
# Nobody takes over what is somebody else's: the id of a client is its name.
use_username_as_clientid true
"""

_BY_CERTIFICATE = """\
# The name in a client's certificate is its user name; who is revoked is told by SIGHUP.
cafile {files}/ca.pem
crlfile {files}/crl.pem
require_certificate true
use_identity_as_username true
"""

_BY_PASSWORD = """\
password_file {files}/passwords
"""

_LOG = """\
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
connection_messages false
"""

# Who is refused at the door is told as an error; who connects and who subscribes to what, as here.
_LOG_OF_ATTEMPTS = """\
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
log_type notice
log_type subscribe
# "Denied PUBLISH" is told with debug alone, which costs three lines for each message.
{debug}log_type debug
connection_messages true
"""

# For a reader that lets through what is worth a line: `broker.log_lines`.
_LOG_OF_ALL = """\
log_timestamp false
log_type error
log_type warning
log_type notice
log_type subscribe
log_type debug
connection_messages true
"""


@dataclass(frozen=True, slots=True)
class Secured:
    """A listener with TLS and rights.

    Attributes:
        files: directory of acl, server.pem and the others, as mosquitto sees it.
        by_password: clients log in with a password; else they show a certificate.
    """

    files: Path
    by_password: bool

    @property
    def access(self) -> str:
        """The part of the configuration that says who may connect."""
        text = _SECURED + (_BY_PASSWORD if self.by_password else _BY_CERTIFICATE)
        return text.format(files=self.files)


def find() -> Path | None:
    """The mosquitto program, or None where it is not installed."""
    places = os.pathsep.join([os.environ.get("PATH", os.defpath), *_MORE_PATHS])
    found = shutil.which("mosquitto", path=places)
    return Path(found) if found else None


def version(program: Path) -> str:
    """The version that the program tells of itself, such as "2.0.11", or "" if it tells none."""
    told = subprocess.run(
        [program, "-h"], capture_output=True, text=True, check=False, timeout=10
    ).stdout
    words = told.split("\n", 1)[0].split()
    return words[2] if words[:2] == ["mosquitto", "version"] and len(words) > 2 else ""


def configuration(host: str, port: int) -> str:
    """The whole text of mosquitto.conf for one plain listener; see mosquitto.conf(5)."""
    return _TEMPLATE.format(host=host, port=port, access=_ANYBODY, log=_LOG)


def secured_configuration(host: str, port: int, secured: Secured) -> str:
    """The same for a listener with TLS, whose log `broker.log_lines` reads."""
    return _TEMPLATE.format(host=host, port=port, access=secured.access, log=_LOG_OF_ALL)


def secured_configuration_elsewhere(
    host: str, port: int, secured: Secured, *, log_denials: bool
) -> str:
    """The same for a mosquitto that others run, and whose log people read.

    Args:
        host: empty for all addresses.
    """
    log = _LOG_OF_ATTEMPTS.format(debug="" if log_denials else "#")
    text = _TEMPLATE.format(host=host, port=port, access=secured.access, log=log)
    return text.replace(f"listener {port} \n", f"listener {port}\n")


def command(program: Path, configuration_file: Path) -> list[str]:
    """The command that runs mosquitto in the foreground."""
    return [str(program), "-c", str(configuration_file)]
