"""From what a sweep definition says of a parameter to its values, as W&B documents them.

Each value is made of one number from 0 to 1 (but for the beta distribution's), so that the same
chance gives the same values. https://docs.wandb.ai/models/sweeps/sweep-config-keys
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from random import Random
from statistics import NormalDist
from typing import Any, TypeAlias

from config.catalogue import nearest, printable

Value: TypeAlias = Any

_RANGE = ("min", "max")
_NORMAL = ("mu", "sigma")
_BETA = ("a", "b")
# What a distribution needs to be told, before what it has a default for.
SHAPES: Mapping[str, tuple[str, ...]] = {
    "constant": ("value",),
    "categorical": ("values",),
    "categorical_w_probabilities": ("values", "probabilities"),
    "int_uniform": _RANGE,
    "uniform": _RANGE,
    "q_uniform": (*_RANGE, "q"),
    "log_uniform": _RANGE,
    "log_uniform_values": _RANGE,
    "q_log_uniform": (*_RANGE, "q"),
    "q_log_uniform_values": (*_RANGE, "q"),
    "inv_log_uniform": _RANGE,
    "inv_log_uniform_values": _RANGE,
    "normal": _NORMAL,
    "q_normal": (*_NORMAL, "q"),
    "log_normal": _NORMAL,
    "q_log_normal": (*_NORMAL, "q"),
    "beta": _BETA,
    "q_beta": (*_BETA, "q"),
}
_DEFAULTS: Mapping[str, float] = {"mu": 0.0, "sigma": 1.0, "q": 1, "a": 1.0, "b": 1.0}
_KEYS = ("distribution", *dict.fromkeys(key for keys in SHAPES.values() for key in keys))
_TINY = 2.0**-54


@dataclass(frozen=True, slots=True)
class Distribution:
    """Where the values of a parameter lie; `told` has what its kind needs, all filled in."""

    kind: str
    told: Mapping[str, Any]

    def draw(self, chance: Random) -> Value:
        """A value at random."""
        if self.kind.endswith("beta"):
            return self._rounded(chance.betavariate(self.told["a"], self.told["b"]))
        return self.at(chance.random())

    def at(self, share: float) -> Value:
        """The value below which this share of the draws lies, in the order that values have here.

        Args:
            share: from 0 to below 1. Not for the beta distribution.
        """
        told = self.told
        match self.kind.removeprefix("q_"):
            case "constant":
                return told["value"]
            case "categorical":
                return told["values"][_index(share, len(told["values"]))]
            case "categorical_w_probabilities":
                ends = list(accumulate(told["probabilities"]))
                index = bisect_right(ends, share * ends[-1])
                return told["values"][min(index, len(ends) - 1)]
            case "int_uniform":
                return told["min"] + _index(share, told["max"] - told["min"] + 1)
            case "uniform":
                return self._rounded(_between(told["min"], told["max"], share))
            case "log_uniform":
                return self._rounded(math.exp(_between(told["min"], told["max"], share)))
            case "log_uniform_values" | "inv_log_uniform_values":
                # That log(1/X) is uniform between those of the bounds comes to the same.
                low, high = told["min"], told["max"]
                value = math.exp(_between(math.log(low), math.log(high), share))
                return self._rounded(min(max(value, low), high))
            case "inv_log_uniform":
                return math.exp(_between(-told["max"], -told["min"], share))
            case "normal":
                return self._rounded(told["mu"] + told["sigma"] * _normal(share))
            case "log_normal":
                return self._rounded(math.exp(told["mu"] + told["sigma"] * _normal(share)))
        raise AssertionError(f"no values of {self.kind}")

    def grid(self) -> tuple[Value, ...] | None:
        """All values, where there are so many that a grid has them; else None."""
        match self.kind:
            case "constant":
                return (self.told["value"],)
            case "categorical":
                return tuple(self.told["values"])
            case "int_uniform":
                return tuple(range(self.told["min"], self.told["max"] + 1))
            case "q_uniform":
                low, step = self.told["min"], self.told["q"]
                # As W&B's grid has them: the upper end is not among them.
                count = max(1, math.ceil((self.told["max"] - low) / step - 1e-9))
                return tuple(_plain(low + index * step) for index in range(count))
        return None

    def _rounded(self, value: float) -> float:
        if not self.kind.startswith("q_"):
            return value
        step = self.told["q"]
        steps = round(value / step)
        return steps * step if isinstance(step, int) else _plain(steps * step)


def read_distribution(told: Mapping[str, Any], faults: list[str]) -> Distribution | None:
    """Read what a definition says of a parameter; None where that has faults."""
    found = list(_strange_keys(told))
    kind = told.get("distribution", _implied(told))
    if kind is None:
        found.append("needs value, values, min and max, or a distribution")
    elif not isinstance(kind, str) or kind not in SHAPES:
        found.append(
            f"has an unknown distribution {printable(repr(kind))}{nearest(str(kind), SHAPES)}"
        )
    elif not found:
        filled = {key: told.get(key, _DEFAULTS.get(key)) for key in SHAPES[kind]}
        excess = [key for key in told if key not in (*SHAPES[kind], "distribution")]
        found += [f"has {key}, of which {kind} makes no use" for key in excess]
        missing = [key for key in SHAPES[kind] if key not in told and key not in _DEFAULTS]
        found += [f"needs {key} for {kind}" for key in missing]
        if not found:
            found += _odd_values(kind, filled)
        if not found:
            return Distribution(kind, filled)
    faults += found
    return None


def _implied(told: Mapping[str, Any]) -> str | None:
    if "value" in told:
        return "constant"
    if "values" in told:
        return "categorical_w_probabilities" if "probabilities" in told else "categorical"
    if "min" in told or "max" in told:
        whole = all(_is_whole(told.get(name, 0)) for name in _RANGE)
        return "int_uniform" if whole else "uniform"
    return None


def _strange_keys(told: Mapping[str, Any]) -> Iterator[str]:
    for key in told:
        if key not in _KEYS:
            yield f"has an unknown key {printable(str(key))}{nearest(str(key), _KEYS)}"


def _odd_values(kind: str, told: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the numbers and lists of a distribution, one line each."""
    for key in ("values", "probabilities"):
        if key in told and (not isinstance(told[key], list) or not told[key]):
            yield f"has {key} that are no list of at least one"
            return
    chances = told.get("probabilities")
    if chances is not None:
        if not all(_is_number(one) and one >= 0 for one in chances) or not sum(chances):
            yield "has probabilities that are no numbers from 0 on"
        elif len(chances) != len(told["values"]):
            yield f"has {len(told['values'])} values but {len(chances)} probabilities"
    numbers = {key: told[key] for key in told if key in (*_RANGE, *_DEFAULTS)}
    odd = [key for key, value in numbers.items() if not _is_number(value)]
    yield from (f"has {key} {printable(repr(numbers[key]))}, which is no number" for key in odd)
    if odd:
        return
    yield from _odd_bounds(kind, numbers)


def _odd_bounds(kind: str, numbers: Mapping[str, float]) -> Iterator[str]:
    if "min" in numbers and numbers["min"] > numbers["max"]:
        yield "has a min above its max"
    if kind == "int_uniform" and not all(_is_whole(value) for value in numbers.values()):
        yield "has bounds that are no whole numbers"
    if kind.endswith("_values") and numbers["min"] <= 0:
        yield f"has a min of {numbers['min']:g}, but {kind} is for numbers above 0"
    if kind.endswith("log_uniform") and max(map(abs, numbers.values())) > 700:
        yield f"has bounds that are no exponents: {kind} takes logarithms; {kind}_values does not"
    for key in ("q", "a", "b"):
        if key in numbers and numbers[key] <= 0:
            yield f"has a {key} that is not above 0"
    if numbers.get("sigma", 0.0) < 0:
        yield "has a sigma below 0"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_whole(value) or isinstance(value, float)) and math.isfinite(value)


def _index(share: float, count: int) -> int:
    return min(int(share * count), count - 1)


def _between(low: float, high: float, share: float) -> float:
    return min(low + (high - low) * share, high)


def _normal(share: float) -> float:
    return NormalDist().inv_cdf(max(share, _TINY))


def _plain(value: float) -> float:
    """Without the noise of binary fractions: 0.3, not 0.30000000000000004."""
    return float(f"{value:.12g}")
