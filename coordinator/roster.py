"""Which devices are there, as far as presence tells; a row for each, never a tensor."""

from __future__ import annotations

from math import inf

from federation.machine import Moment
from federation.messages import DevicePresence, State

CONFIRM_S = 90.0


class Roster:
    """The devices that are online, each with the number of the connection that said so."""

    def __init__(self) -> None:
        self.online: dict[str, int] = {}
        self._unconfirmed: set[str] = set()
        self.due_s = inf

    def heard(self, device: str, presence: DevicePresence) -> bool:
        """Take a presence in; whether the device came or went by it.

        A late will of an earlier connection, with a lesser incarnation, is not believed.
        """
        if presence.state is State.ONLINE:
            return self.spoke(device, presence.incarnation)
        known = self.online.get(device)
        if known is not None and presence.incarnation >= known:
            self.gone(device)
            return True
        return False

    def spoke(self, device: str, incarnation: int) -> bool:
        """The device itself spoke on this connection; whether it was not known to be there."""
        known = self.online.get(device)
        self.online[device] = incarnation
        self._unconfirmed.discard(device)
        return known is None

    def gone(self, device: str) -> None:
        """The device is not there any more."""
        self.online.pop(device, None)
        self._unconfirmed.discard(device)

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
