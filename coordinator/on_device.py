"""How good the global model is where it is used: on the held-out data of each device.

A device tests each version that it receives before it trains on it, and tells the accuracy with its
update. The last one of each device counts. Devices tell what they like: a figure that is none is
passed over, and so is a device in quarantine.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from statistics import fmean
from typing import Any

FIGURE = "held_out_accuracy"
WORST = 0.1


class OnDevice:
    """The last accuracy that each device told, a number a device."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def told(self, device: str, metrics: Mapping[str, Any]) -> None:
        """A device delivered an update with these figures."""
        figure = metrics.get(FIGURE)
        if isinstance(figure, (int, float)) and not isinstance(figure, bool) and 0 <= figure <= 1:
            self._last[device] = float(figure)

    def forget(self, device: str) -> None:
        """What this device says counts no more."""
        self._last.pop(device, None)

    def figures(self) -> dict[str, float] | None:
        """Of how many devices, their mean, and the mean of the worst tenth; None if none told any.

        The worst tenth of few devices is the worst one.
        """
        if not self._last:
            return None
        known = sorted(self._last.values())
        worst = known[: ceil(len(known) * WORST)]
        return {
            "devices": len(known),
            "accuracy_mean": round(fmean(known), 6),
            "accuracy_worst_decile": round(fmean(worst), 6),
        }
