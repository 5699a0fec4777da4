"""The configuration that is made for mosquitto, and how mosquitto is found."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker import mosquitto

EXPECTED = """\
# Made by Flockwise from its settings, anew at each start.

listener 1884 127.0.0.1
# Whoever reaches the address may use it: for a trial on this machine alone.
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


def program_in(directory: Path, text: str = "#!/bin/sh\n") -> Path:
    directory.mkdir()
    program = directory / "mosquitto"
    program.write_text(text)
    program.chmod(0o755)
    return program


def test_the_configuration_is_this_text() -> None:
    assert mosquitto.configuration("127.0.0.1", 1884) == EXPECTED


def test_an_ipv6_address_stands_without_brackets() -> None:
    assert "\nlistener 1883 ::1\n" in mosquitto.configuration("::1", 1883)


def test_the_program_is_found_on_the_path_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_in(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(program.parent))
    assert mosquitto.find() == program


def test_the_program_is_found_where_distributions_put_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = program_in(tmp_path / "sbin")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "_MORE_PATHS", (str(program.parent),))
    assert mosquitto.find() == program


def test_a_program_that_is_not_there_is_not_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(mosquitto, "_MORE_PATHS", ())
    assert mosquitto.find() is None


@pytest.mark.parametrize(
    ("told", "version"),
    [("mosquitto version 2.0.11\\n\\nmosquitto is a broker.", "2.0.11"), ("who?", ""), ("", "")],
)
def test_the_version_is_what_the_program_tells(tmp_path: Path, told: str, version: str) -> None:
    program = program_in(tmp_path / "bin", f"#!/bin/sh\nprintf '{told}'\nexit 3\n")
    assert mosquitto.version(program) == version
