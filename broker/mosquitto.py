"""mosquitto: where its program is, and the configuration that is made for it from settings.

The configuration is data to text, and every limit in it has its reason beside it. Nothing is
persistent, and what one slow client can make the broker hold is bounded.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

# Distributions install the program where only root's PATH looks.
_MORE_PATHS = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin", "/opt/homebrew/opt/mosquitto")

_TEMPLATE = """\
# Made by Flockwise from its settings, anew at each start.

listener {port} {host}
# Rights and TLS are not set up yet: whoever reaches the address may use it.
allow_anonymous true

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
log_timestamp_format %Y-%m-%dT%H:%M:%S
log_type error
log_type warning
connection_messages false
"""


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
    return _TEMPLATE.format(host=host, port=port)


def command(program: Path, configuration_file: Path) -> list[str]:
    """The command that runs mosquitto in the foreground."""
    return [str(program), "-c", str(configuration_file)]
