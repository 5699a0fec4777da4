"""What mosquitto logs, and what of it is worth a line to people: who was refused, and what failed.

mosquitto tells of a publish that it denied only together with every message that it moves, and of a
subscription to what is somebody else's not at all: it grants it and then delivers nothing. So its
whole log is read here, and little of it passes.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from federation import topics
from federation.certificates import AUTHORITY_NAME, COORDINATOR_NAME
from federation.topics import Role, Topics

# Who does one thing again and again is told of once in so long.
QUIET_S = 10.0
_MOST_REMEMBERED = 1000

_DENIED = re.compile(r"Denied PUBLISH from (\S+) \(.*?, '(.*)', \.\.\. \(\d+ bytes\)\)")
_SUBSCRIBED = re.compile(r"(\S+) [012] (\S.*)")
_ARRIVED = re.compile(r"New connection from (\S+) on port")
_NO_TLS = re.compile(r"Client connection from (\S+) failed: (.*)")
_OPENSSL = re.compile(r"OpenSSL Error\[\d+\]: (.*)")
_REASON = re.compile(r"error:[0-9A-F]+:[^:]*:[^:]*:(.*)")
_EXPECTED = ("does not contain '%c' or '%u'", "should not be run as root", "epoll re-registering")


@dataclass(slots=True)
class LogReader:
    """Reads line by line; what it returns is to be told.

    Attributes:
        federation: whose rights the subscriptions are held against.
        now_s: the time, to tell of nothing too often.
    """

    federation: Topics
    now_s: Callable[[], float]
    _from: str = "somewhere"
    _why: str = ""
    _told: dict[str, tuple[float, int]] = field(default_factory=dict)

    def read(self, line: str) -> str | None:
        """What this line has to say to people, if anything."""
        line = "".join(c if c.isprintable() else "?" for c in line.strip())[:500]
        if found := _DENIED.match(line):
            client, topic = found.groups()
            return self._seldom(f"refused: {client} may not write {topic}")
        if found := _ARRIVED.match(line):
            self._from, self._why = found[1].rpartition(":")[0], ""
            return None
        if found := _OPENSSL.match(line):
            self._why = _reason(found[1])
            return None
        if line.startswith("Client <unknown> disconnected") and self._why:
            why, self._why = self._why, ""
            return self._seldom(f"refused: a client that came from {self._from}: {why}")
        if found := _NO_TLS.match(line):
            return self._seldom(f"refused: a client that came from {found[1]}: {_reason(found[2])}")
        if "not authorised" in line or "already connected" in line:
            return self._seldom(line)
        if line.startswith(("Error", "Warning")) and not any(one in line for one in _EXPECTED):
            return line
        if (found := _SUBSCRIBED.fullmatch(line)) and not self._may_read(found[1], found[2]):
            return self._seldom(f"refused: {found[1]} may not read {found[2]}")
        return None

    def _may_read(self, client: str, asked: str) -> bool:
        own = {
            COORDINATOR_NAME: (Role.COORDINATOR, "+"),
            AUTHORITY_NAME: (Role.AUTHORITY, "+"),
        }.get(client, (Role.EVERY_DEVICE, client))
        # By its name each of them may also do what a device of that name may.
        held = [own, (Role.EVERY_DEVICE, client), (Role.THE_DEVICE, client)]
        return any(
            _covers(self.federation.root + right.place.value.replace("{device}", name), asked)
            for right in topics.RIGHTS
            for role, name in held
            if role in right.readers
        )

    def _seldom(self, text: str) -> str | None:
        """The text, unless it was told just now; with how often it happened since."""
        now_s = self.now_s()
        last_s, passed_over = self._told.get(text, (now_s - QUIET_S, 0))
        if now_s - last_s < QUIET_S:
            self._told[text] = (last_s, passed_over + 1)
            return None
        if len(self._told) >= _MOST_REMEMBERED:
            self._told.clear()
        self._told[text] = (now_s, 0)
        return f"{text} (and {passed_over} times before)" if passed_over else text


def _covers(form: str, subscription: str) -> bool:
    """Whether a subscription asks for nothing that the form of a right does not hold."""
    ours, theirs = form.split("/"), subscription.split("/")
    return len(ours) == len(theirs) and all(
        asked != "#" and (own in (asked, "+") or own.startswith("{"))
        for own, asked in zip(ours, theirs, strict=True)
    )


def _reason(text: str) -> str:
    found = _REASON.match(text)
    return found[1].rstrip(".") if found else text.rstrip(".")
