"""Of all that mosquitto logs, what is worth a line to people."""

from __future__ import annotations

import pytest

from broker.log_lines import QUIET_S, LogReader
from federation.topics import Topics


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reader(clock: Clock | None = None) -> LogReader:
    return LogReader(Topics("f", "x"), clock or Clock())


def test_a_publish_that_was_denied_is_told() -> None:
    line = "Denied PUBLISH from a (d0, q1, r0, m4, 'f/x/device/b/up', ... (6 bytes))"
    assert reader().read(line) == "refused: a may not write f/x/device/b/up"


@pytest.mark.parametrize(
    ("log", "told"),
    [
        (
            [
                "New connection from 192.0.2.7:60806 on port 8883.",
                "OpenSSL Error[0]: error:0A0000C7:SSL routines::peer did not return a certificate",
                "Client <unknown> disconnected: Protocol error.",
            ],
            "refused: a client that came from 192.0.2.7: peer did not return a certificate",
        ),
        (
            [
                "Client connection from 192.0.2.7 failed: "
                "error:0A00010B:SSL routines::wrong version number."
            ],
            "refused: a client that came from 192.0.2.7: wrong version number",
        ),
        (
            ["Client a disconnected, not authorised."],
            "Client a disconnected, not authorised.",
        ),
        (
            ["Client a already connected, closing old connection."],
            "Client a already connected, closing old connection.",
        ),
        (["Error: Address already in use"], "Error: Address already in use"),
    ],
)
def test_who_was_kept_out_and_why_is_told(log: list[str], told: str) -> None:
    reading = reader()
    assert [text for line in log if (text := reading.read(line))] == [told]


@pytest.mark.parametrize(
    "line",
    [
        "New client connected from 127.0.0.1:1 as a (p2, c1, k60, u'a').",
        "Received PUBLISH from a (d0, q1, r1, m2, 'f/x/device/a', ... (2 bytes))",
        "Sending PUBACK to a (m4, rc135)",
        "Received SUBSCRIBE from a",
        "\tf/x/device/a/down (QoS 1)",
        "OpenSSL Error[0]: error:0A000126:SSL routines::unexpected eof while reading",
        "Client a closed its connection.",
        "Warning: ACL pattern 'f/x/model' does not contain '%c' or '%u'.",
        "Warning: Mosquitto should not be run as root/administrator.",
        "a 1 f/x/device/a/down",
        "a 0 f/x/model/1/20",
        "a 1 f/x/coordinator",
        "_coordinator 1 f/x/device/+",
        "_coordinator 1 f/x/device/+/up",
        "_authority 1 f/x/device/+/csr",
        "_coordinator 1 f/x/device/_coordinator/certificate",
        "",
    ],
)
def test_what_is_as_it_should_be_is_not_told(line: str) -> None:
    assert reader().read(line) is None


@pytest.mark.parametrize(
    "line",
    [
        "a 1 #",
        "a 1 +/x/model",
        "a 0 f/x/#",
        "a 1 f/x/device/+",
        "a 1 f/x/device/#",
        "a 1 f/x/device/b/down",
        "a 1 f/x/device/a/up",
        "a 1 f/x/model/#",
        "a 1 f/y/model",
        "a 1 f/x/device/+/csr",
        "_coordinator 1 f/x/device/#",
        "_authority 1 f/x/device/+/up",
    ],
)
def test_a_subscription_to_what_is_not_theirs_is_told(line: str) -> None:
    client, _, topic = line.split()
    assert reader().read(line) == f"refused: {client} may not read {topic}"


def test_who_does_it_again_and_again_is_told_of_seldom() -> None:
    clock = Clock()
    reading = reader(clock)
    told = []
    for _ in range(1000):
        told.append(reading.read("a 1 #"))
    clock.now_s += QUIET_S
    told.append(reading.read("a 1 #"))
    assert [text for text in told if text] == [
        "refused: a may not read #",
        "refused: a may not read # (and 999 times before)",
    ]


def test_nobody_can_forge_a_line() -> None:
    told = reader().read("a 1 x\x1b[2J\x9by")
    assert told == "refused: a may not read x?[2J?y"


def test_what_is_remembered_is_bounded() -> None:
    reading = reader()
    for number in range(5000):
        reading.read(f"a 1 {number}")
    assert len(reading._told) <= 1000
