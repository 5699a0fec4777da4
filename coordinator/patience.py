"""How often a device is refused: again and again costs it time, and not the gateway.

A refusal costs a transaction and two messages, so a device that offers what was refused, or one bad
update after another, is put off (`Pace`) when it has used up its share: `BURST` refusals at once,
and another one every `EVERY_S` seconds. An honest device that comes back after a long time, with
more stale updates than that, has them all refused, the last ones a little later.
"""

from __future__ import annotations

from federation.machine import Moment

BURST = 20
EVERY_S = 10.0


class Patience:
    """For each device that was refused lately, when it will have its whole share again."""

    def __init__(self) -> None:
        self._whole_s: dict[str, float] = {}

    def wait_s(self, device: str, at: Moment) -> float:
        """How long until this device may be refused once more; 0 if it may now."""
        used_s = self._whole_s.get(device, at.now_s) - at.now_s
        return max(0.0, used_s - (BURST - 1) * EVERY_S)

    def refused(self, device: str, at: Moment) -> None:
        """A device was refused."""
        self._whole_s[device] = max(self._whole_s.get(device, 0.0), at.now_s) + EVERY_S
        if len(self._whole_s) % 1000 == 0:
            self._whole_s = {d: s for d, s in self._whole_s.items() if s > at.now_s}
