"""Figures for people are short and never mislead."""

from __future__ import annotations

import pytest

from experiments.wording import (
    accuracy_text,
    bytes_text,
    count_text,
    facts_text,
    seconds_text,
    sparkline,
)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.00 kB"),
        (62_456, "62.5 kB"),
        (248_024, "248 kB"),
        (1_254_000, "1.25 MB"),
        (3_100_000_000, "3.10 GB"),
    ],
)
def test_bytes_have_three_figures(count: int, text: str) -> None:
    assert bytes_text(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0 s"), (99.4, "99 s"), (99.6, "1 min 40 s"), (185, "3 min 05 s"), (3725, "1 h 02 min")],
)
def test_times_have_the_units_that_fit(seconds: float, text: str) -> None:
    assert seconds_text(seconds) == text


def test_an_accuracy_on_generated_images_says_so() -> None:
    assert accuracy_text(0.6512, generated=False) == "65.1 %"
    assert accuracy_text(0.6512, generated=True) == "65.1 % (generated images)"
    assert accuracy_text(None, generated=True) == "not tested"


def test_one_is_singular() -> None:
    assert (count_text(1, "device"), count_text(5, "device")) == ("1 device", "5 devices")


def test_a_curve_goes_from_least_to_greatest() -> None:
    assert sparkline([0.1, 0.2, 0.8], 10) == "▁▂█"


def test_a_long_curve_is_shortened_and_ends_with_the_newest_value() -> None:
    curve = sparkline([*range(100), -50.0], 10)
    assert len(curve) == 10
    assert curve[-1] == "▁"


def test_a_flat_or_empty_curve_is_no_fault() -> None:
    assert sparkline([0.5, 0.5], 10) == "▁▁"
    assert sparkline([], 10) == ""


def test_facts_are_short_and_stay_on_their_line() -> None:
    facts = {"role": "agent a", "loss": 0.123456789, "why": "a\nb\x1b[0m", "long": "x" * 100}
    assert facts_text(facts) == "loss=0.1235 why=a\\nb\\x1b[0m long=" + "x" * 77 + "..."
