"""The devices that are invited to the version in the making, and are there.

Told of each device that comes or goes, so that nothing is done for a whole fleet at each event; all
are asked about once for each version, and each new draw of it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set

from config.settings import Aggregation
from coordinator.trigger import needed
from coordinator.vocabulary import Accepted
from federation.invitation import is_invited


class Cohort:
    """Who takes part in the version that is being made, as far as it is there."""

    def __init__(self, rule: Aggregation) -> None:
        """Nobody, so far; and nobody ever but in rounds, as nobody else is waited for."""
        self.invited: set[str] = set()
        self._rule = rule
        self._version = (-1, 0)

    def look(
        self, there: Collection[str], news: Iterable[str] | None, version: int, draw: int
    ) -> None:
        """Take in who is there.

        Args:
            news: the devices that came or went since the last look; None if that is not known.
            version: what they are invited to take part in: the current version,
            draw: and which of the invitations to it.
        """
        if self._rule.trigger != "rounds":
            return
        if news is None or (version, draw) != self._version:
            self._version = version, draw
            self.invited.clear()
            news = there
        fraction = self._rule.fraction
        for device in news:
            if device in there and is_invited(device, version, draw, fraction):
                self.invited.add(device)
            else:
                self.invited.discard(device)

    def expected(self, ready: Iterable[Accepted], barred: Set[str]) -> int:
        """How many are there now and may take part, or have delivered already."""
        return len((self.invited - barred) | {accepted.id.device for accepted in ready})

    def fewest(self, barred: int) -> int:
        """Fewer updates than this make no version before its deadline, whoever sent them.

        Args:
            barred: how many devices may have to stand aside.
        """
        return needed(self._rule, max(0, len(self.invited) - barred))
