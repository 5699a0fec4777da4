"""Ending runs early that fall behind: Hyperband as W&B does it. Pure.

After each of a few numbers of values of the metric, a run goes on only if it is among the best
share of all that have come so far. https://arxiv.org/abs/1603.06560
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from config.catalogue import nearest, printable

_KEYS = ("type", "min_iter", "max_iter", "s", "eta", "strict")
_MOST_BANDS = 100
_FAR = 1e9


@dataclass(frozen=True, slots=True)
class Hyperband:
    """After how many values of the metric runs are compared; the best 1/eta go on."""

    bands: tuple[int, ...]
    eta: float

    def is_behind(self, losses: Sequence[float], rivals: Iterable[Sequence[float]]) -> bool:
        """Whether a run is to end.

        Args:
            losses: the metric of the run so far, less being better.
            rivals: those of the other runs.
        """
        band = max((one for one in self.bands if one < len(losses)), default=None)
        if band is None:
            return False
        there = sorted([losses[band], *(other[band] for other in rivals if len(other) > band)])
        return losses[band] > there[int(len(there) / self.eta)]


def read_early_terminate(told: Any, faults: list[str]) -> Hyperband | None:
    """What a definition says of it; None if it says nothing, or has faults."""
    if told is None:
        return None
    if not isinstance(told, dict) or told.get("type") != "hyperband":
        faults.append("early_terminate must be of type hyperband")
        return None
    found = [
        f"has an unknown key {printable(str(key))}{nearest(str(key), _KEYS)}"
        for key in told
        if key not in _KEYS
    ]
    eta: Any = told.get("eta", 3)
    bands: tuple[int, ...] = ()
    if isinstance(eta, bool) or not isinstance(eta, int | float) or not eta > 1:
        found.append("has an eta that is no number above 1")
    else:
        bands = _bands(told, eta)
        if not bands:
            found.append("needs min_iter, or max_iter and s: whole numbers that leave room for eta")
    faults += [f"early_terminate {one}" for one in found]
    return None if found else Hyperband(bands, eta)


def _bands(told: dict[str, Any], eta: float) -> tuple[int, ...]:
    first, last, steps = (told.get(key) for key in ("min_iter", "max_iter", "s"))
    if _is_count(last) and _is_count(steps):
        return tuple(sorted({int(last / eta**n) for n in range(1, steps + 1)} - {0}))
    if _is_count(first):
        return tuple(int(first * eta**n) for n in range(_MOST_BANDS) if first * eta**n < _FAR)
    return ()


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
