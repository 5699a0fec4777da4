"""Values of parameters: within their bounds, even where they are to be, the same for one seed."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from experiments.sweep.distributions import SHAPES, Distribution, read_distribution

SHARES = st.floats(0, 1, exclude_max=True)
STEPS = st.sampled_from([1, 2, 5, 0.1, 0.25])


def read(**told: Any) -> Distribution:
    faults: list[str] = []
    found = read_distribution(told, faults)
    assert found is not None, faults
    return found


def faults_of(**told: Any) -> list[str]:
    faults: list[str] = []
    assert read_distribution(told, faults) is None
    return faults


@st.composite
def bounds(draw: st.DrawFn, low: float = -1e6, high: float = 1e6) -> tuple[float, float]:
    ends = draw(st.lists(st.floats(low, high), min_size=2, max_size=2))
    return min(ends), max(ends)


@st.composite
def any_distribution(draw: st.DrawFn) -> Distribution:
    kind = draw(st.sampled_from(sorted(SHAPES)))
    values = draw(st.lists(st.integers(), min_size=1, max_size=5))
    inside = (1e-6, 1e6) if kind.endswith("_values") else (-100.0, 100.0)
    low, high = draw(bounds(*inside))
    if kind == "int_uniform":
        low, high = math.floor(low), math.ceil(high)
    given = {
        "value": values[0],
        "values": values,
        "probabilities": [1.0] * len(values),
        "min": low,
        "max": high,
        "q": draw(STEPS),
        "mu": draw(st.floats(-10, 10)),
        "sigma": draw(st.floats(0, 10)),
        "a": draw(st.floats(0.1, 10)),
        "b": draw(st.floats(0.1, 10)),
    }
    return read(distribution=kind, **{key: given[key] for key in SHAPES[kind]})


@given(any_distribution(), st.integers())
def test_the_same_chance_gives_the_same_value(one: Distribution, seed: int) -> None:
    assert one.draw(Random(seed)) == one.draw(Random(seed))


@given(bounds(), SHARES)
def test_a_uniform_value_lies_within_its_bounds(ends: tuple[float, float], share: float) -> None:
    assert ends[0] <= read(distribution="uniform", min=ends[0], max=ends[1]).at(share) <= ends[1]


@given(st.integers(-(10**6), 10**6), st.integers(0, 10**6), SHARES)
def test_a_whole_number_lies_within_its_bounds(low: int, width: int, share: float) -> None:
    value = read(min=low, max=low + width).at(share)
    assert isinstance(value, int)
    assert low <= value <= low + width


@given(bounds(1e-9, 1e9), SHARES)
@pytest.mark.parametrize("kind", ["log_uniform_values", "inv_log_uniform_values"])
def test_a_log_uniform_value_lies_within_its_bounds(
    kind: str, ends: tuple[float, float], share: float
) -> None:
    value = read(distribution=kind, min=ends[0], max=ends[1]).at(share)
    assert ends[0] <= value <= ends[1]


@given(bounds(1e-9, 1e9), st.tuples(SHARES, SHARES))
def test_log_uniform_values_rise_with_their_share(
    ends: tuple[float, float], shares: tuple[float, float]
) -> None:
    one = read(distribution="log_uniform_values", min=ends[0], max=ends[1])
    assert one.at(min(shares)) <= one.at(max(shares))


@given(bounds(-20, 20), SHARES)
def test_the_logarithm_of_a_log_uniform_value_is_uniform(
    ends: tuple[float, float], share: float
) -> None:
    low, high = ends
    value = math.log(read(distribution="log_uniform", min=low, max=high).at(share))
    assert value == pytest.approx(low + share * (high - low), abs=1e-9)
    inverse = read(distribution="inv_log_uniform", min=low, max=high).at(share)
    assert -high - 1e-9 <= math.log(inverse) <= -low + 1e-9


def test_half_of_log_uniform_values_lie_below_the_geometric_mean() -> None:
    one = read(distribution="log_uniform_values", min=1e-4, max=1.0)
    assert one.at(0.5) == pytest.approx(1e-2)
    drawn = [one.draw(Random(n)) for n in range(400)]
    assert 150 < sum(value < 1e-2 for value in drawn) < 250


@given(bounds(), STEPS, SHARES)
def test_a_quantized_value_is_a_multiple_of_its_step(
    ends: tuple[float, float], step: float, share: float
) -> None:
    value = read(distribution="q_uniform", min=ends[0], max=ends[1], q=step).at(share)
    assert value / step == pytest.approx(round(value / step))
    assert ends[0] - step <= value <= ends[1] + step
    assert isinstance(value, int) == isinstance(step, int)


def test_values_with_probabilities_come_as_often_as_they_are_likely() -> None:
    one = read(values=["a", "b", "c"], probabilities=[1, 0, 3])
    assert [one.at(share) for share in (0.0, 0.24, 0.26, 0.99)] == ["a", "a", "c", "c"]
    assert one.grid() is None


def test_a_normal_value_is_where_its_share_says() -> None:
    one = read(distribution="normal", mu=2.0, sigma=3.0)
    assert one.at(0.5) == pytest.approx(2.0)
    assert one.at(0.841344746) == pytest.approx(5.0)
    assert math.isfinite(one.at(0.0))
    log = read(distribution="log_normal", mu=2.0, sigma=3.0)
    assert log.at(0.5) == pytest.approx(math.exp(2.0))


def test_what_is_not_said_is_as_w_and_b_has_it() -> None:
    assert read(min=1, max=5).kind == "int_uniform"
    assert read(min=1, max=5.0).kind == "uniform"
    assert read(values=[1]).kind == "categorical"
    assert read(value=1).kind == "constant"
    assert read(distribution="beta").told == {"a": 1.0, "b": 1.0}
    assert read(distribution="q_normal").told == {"mu": 0.0, "sigma": 1.0, "q": 1}


def test_a_grid_has_what_can_be_counted() -> None:
    assert read(values=[3, 1]).grid() == (3, 1)
    assert read(value="x").grid() == ("x",)
    assert read(min=2, max=4).grid() == (2, 3, 4)
    assert read(distribution="q_uniform", min=0.1, max=0.4, q=0.1).grid() == (0.1, 0.2, 0.3)
    assert read(min=0.0, max=1.0).grid() is None


@pytest.mark.parametrize(
    ("told", "fault"),
    [
        ({}, "needs value, values, min and max, or a distribution"),
        ({"vaules": [1], "value": 2}, "has an unknown key vaules; did you mean values?"),
        ({"min": 1}, "needs max for int_uniform"),
        ({"values": [1], "min": 2}, "has min, of which categorical makes no use"),
        ({"values": []}, "has values that are no list of at least one"),
        ({"values": [1, 2], "probabilities": [1]}, "has 2 values but 1 probabilities"),
        ({"values": [1], "probabilities": [-1]}, "has probabilities that are no numbers from 0 on"),
        ({"min": 2.0, "max": 1.0}, "has a min above its max"),
        ({"min": "low", "max": 1.0}, "has min 'low', which is no number"),
        ({"min": True, "max": 1.0}, "has min True, which is no number"),
        ({"distribution": "int_uniform", "min": 0.5, "max": 1}, "bounds that are no whole numbers"),
        ({"distribution": "log_uniform_values", "min": 0, "max": 1}, "is for numbers above 0"),
        ({"distribution": "log_uniform", "min": 1, "max": 1e4}, "log_uniform_values does not"),
        ({"distribution": "q_normal", "q": 0}, "has a q that is not above 0"),
        ({"distribution": "normal", "sigma": -1}, "has a sigma below 0"),
        ({"distribution": "unifrom"}, "has an unknown distribution 'unifrom'; did you mean"),
    ],
)
def test_each_fault_is_one_line(told: dict[str, Any], fault: str) -> None:
    (line,) = faults_of(**told)
    assert fault in line
