"""Which devices are there, as far as presence tells; a row for each, never a tensor."""

from __future__ import annotations

from collections.abc import Set
from math import inf

from federation.machine import Moment
from federation.messages import DevicePresence, State

CONFIRM_S = 90.0


class Roster:
    """The devices that are online, each with the number of the connection that said so."""

    def __init__(self) -> None:
        self.online: dict[str, int] = {}
        self.paused: dict[str, str] = {}  # why a device does not train for now, where it says so
        self.private: dict[str, str] = {}  # what a device's noise promises, where it adds any
        # For each device its outbox, where it is known, and the least incarnation to believe.
        self._latest: dict[str, tuple[bytes | None, int]] = {}
        self._unconfirmed: set[str] = set()
        self._working: set[str] = set()
        self._news: set[str] = set()
        self.due_s = inf

    @property
    def working(self) -> Set[str]:
        """The devices that are there and do not say that they cannot train for now."""
        return self._working

    def news(self) -> Set[str]:
        """The devices that may have begun or ceased to be `working` since this was asked."""
        if not self._news:
            return frozenset()  # asked with every event
        told, self._news = self._news, set()
        return told

    def pauses(self, device: str, why: str) -> bool:
        """A device tells why it does not train for now, or that it does; whether that is news."""
        news = self.paused.get(device, "") != why
        if why:
            self.paused[device] = why
        else:
            self.paused.pop(device, None)
        if news:
            self._count(device)
        return news

    def connection(self, device: str) -> tuple[bytes | None, int]:
        """Outbox and incarnation of the last connection of a device that was believed."""
        return self._latest.get(device, (None, 0))

    def heard(self, device: str, presence: DevicePresence) -> bool:
        """Take a presence in; whether the device came or went by it.

        What comes late, with a lesser incarnation, is not believed: neither the will of an earlier
        connection nor its birth. The incarnations of another outbox, as a device has that was
        wiped, tell nothing about those of this one; its will is not believed, its birth is.
        """
        outbox, least = self._latest.get(device, (None, 0))
        same_outbox = outbox in (None, presence.outbox)
        if same_outbox and presence.incarnation < least:
            return False
        if presence.state is State.ONLINE:
            self._latest[device] = presence.outbox, presence.incarnation
            self.private.pop(device, None)
            if presence.privacy:
                self.private[device] = presence.privacy
            return self._is_here(device, presence.incarnation)
        if not same_outbox:
            return False
        # The birth on this connection, should it come only now, is late.
        self._latest[device] = presence.outbox, presence.incarnation + 1
        was_here = device in self.online
        self.gone(device)
        return was_here

    def spoke(self, device: str, incarnation: int) -> bool:
        """The device itself spoke on this connection; whether it was not known to be there."""
        outbox, least = self._latest.get(device, (None, 0))
        if incarnation < least:
            return False
        self._latest[device] = outbox, incarnation
        return self._is_here(device, incarnation)

    def worked(self, device: str) -> None:
        """An offer, a chunk or a request came: a device that was there is still there."""
        self._unconfirmed.discard(device)

    def gone(self, device: str) -> None:
        """The device is not there any more."""
        self.online.pop(device, None)
        self.paused.pop(device, None)
        self.private.pop(device, None)
        self._unconfirmed.discard(device)
        self._count(device)

    def relinked(self, at: Moment) -> None:
        """The broker may be a new one: devices have a while to say that they are still there."""
        self._unconfirmed = set(self.online)
        self.due_s = at.now_s + CONFIRM_S if self._unconfirmed else inf

    def expire(self, at: Moment) -> tuple[str, ...]:
        """The devices that did not come back in time; they count as gone."""
        if at.now_s < self.due_s:
            return ()
        lost = tuple(sorted(self._unconfirmed))
        for device in lost:
            self.gone(device)
        self.due_s = inf
        return lost

    def _is_here(self, device: str, incarnation: int) -> bool:
        was_here = device in self.online
        self.online[device] = incarnation
        self._unconfirmed.discard(device)
        if not was_here:
            self._count(device)
        return not was_here

    def _count(self, device: str) -> None:
        """Whether a device works may have changed."""
        self._news.add(device)
        if device in self.online and device not in self.paused:
            self._working.add(device)
        else:
            self._working.discard(device)
