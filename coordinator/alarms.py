"""What somebody should be woken for: the accuracy fell, a device is in quarantine. Pure.

Each event once: after a fall there is no other alarm until the accuracy has come half of the way
back. Of many alarms in a short time the first ones are told, and how many more there were.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from coordinator.curves import figure

MOST = 5
WITHIN_S = 600.0


@dataclass(frozen=True, slots=True)
class Alarm:
    """A title of less than 64 characters, and a text."""

    title: str
    text: str


class Alarms:
    """Hears the rows of a run, in order."""

    def __init__(self, fall: float | None) -> None:
        """Begin.

        Args:
            fall: how far below its best the accuracy may be; None: as far as it likes.
        """
        self._fall = fall
        self._best: tuple[float, int] | None = None
        self._fallen = False
        self._told_s: deque[float] = deque(maxlen=MOST)
        self._untold = 0

    def take(self, row: Mapping[str, Any]) -> Alarm | None:
        """The alarm that a row gives, if any."""
        alarm = None
        if row["kind"] == "evaluation" and (accuracy := figure(row.get("accuracy"))) is not None:
            alarm = self._accuracy(accuracy, row["version"])
        elif row["kind"] == "quarantine" and row["quarantined"]:
            text = f"at version {row['version']}, by {row['by']}: {row['reason']}"
            alarm = Alarm(f"{row['device']} is in quarantine", text)
        return None if alarm is None else self._limited(alarm, row["time_s"])

    def begin(self) -> None:
        """The clock begins anew, as it does with each start of a coordinator."""
        self._told_s.clear()
        self._untold = 0

    def _accuracy(self, accuracy: float, version: int) -> Alarm | None:
        if self._fall is None:
            return None
        if self._best is None or accuracy >= self._best[0]:
            self._best = accuracy, version
        best, of_version = self._best
        if accuracy > best - self._fall / 2:
            self._fallen = False
        if self._fallen or accuracy >= best - self._fall:
            return None
        self._fallen = True
        text = f"{accuracy:.1%} at version {version}, {best:.1%} at version {of_version}"
        return Alarm("Accuracy has fallen", text)

    def _limited(self, alarm: Alarm, now_s: float) -> Alarm | None:
        if len(self._told_s) == MOST and now_s - self._told_s[0] < WITHIN_S:
            self._untold += 1
            return None
        self._told_s.append(now_s)
        more, self._untold = self._untold, 0
        if not more:
            return alarm
        return Alarm(alarm.title, f"{alarm.text} (and {more} alarms before it were not told)")
