"""Which versions become artifacts, and what is said of each: where it comes from, how good it is.

Pure. A version is spoken of when it was tested; by then later ones may have been made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from coordinator.curves import figure


@dataclass(frozen=True, slots=True)
class Kept:
    """A version that becomes an artifact: its other names, and what is known of it."""

    version: int
    aliases: tuple[str, ...]
    facts: dict[str, Any]


class Lineage:
    """Hears the rows of a run, in order."""

    def __init__(self, which: Literal["off", "last", "tested"], ledger: str) -> None:
        self._which = which
        self._ledger = ledger
        self._updates = 0
        self._devices: set[str] = set()
        self._made: dict[int, dict[str, Any]] = {}
        self._best: float | None = None
        self._last: Kept | None = None

    def take(self, row: Mapping[str, Any]) -> Kept | None:
        """The version that a row says enough of, if it is to be kept now."""
        if row["kind"] == "version":
            self._updates += row["updates"]
            self._devices.update(row["devices"])
            self._made[row["version"]] = {
                "updates": self._updates,
                "devices": len(self._devices),
                "base_version": row["version"] - 1,
                "made_of": sorted(row["devices"]),
            }
        if row["kind"] != "evaluation" or self._which == "off":
            return None
        kept = self._tested(row)
        self._last = kept if self._which == "last" else None
        return kept if self._which == "tested" else None

    def close(self) -> Kept | None:
        """The version to keep when nothing more will come."""
        last, self._last = self._last, None
        return last

    def begin(self) -> None:
        """What an earlier start tested last, it also kept."""
        self._last = None

    def _tested(self, row: Mapping[str, Any]) -> Kept:
        version = row["version"]
        made = self._made.get(version, {"updates": self._updates, "devices": len(self._devices)})
        self._made = {number: facts for number, facts in self._made.items() if number > version}
        accuracy = figure(row.get("accuracy"))
        best = accuracy is not None and (self._best is None or accuracy >= self._best)
        if best:
            self._best = accuracy
        name = f"version-{version}"
        figures = {key: row[key] for key in ("accuracy", "loss", "examples") if key in row}
        facts = {"version": version, **figures, **made, "ledger": self._ledger}
        return Kept(version, (name, "best") if best else (name,), facts)
