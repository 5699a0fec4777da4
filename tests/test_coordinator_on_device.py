"""How good devices find the model."""

from __future__ import annotations

import math
from typing import Any

import pytest

from coordinator.on_device import OnDevice


def told(*figures: Any) -> dict[str, float] | None:
    on_device = OnDevice()
    for number, figure in enumerate(figures):
        on_device.told(f"device-{number}", {"held_out_accuracy": figure})
    return on_device.figures()


def test_nobody_told_anything() -> None:
    assert OnDevice().figures() is None


def test_the_mean_is_over_devices() -> None:
    assert told(0.25, 0.75) == {
        "devices": 2,
        "accuracy_mean": 0.5,
        "accuracy_worst_decile": 0.25,
    }


def test_the_worst_decile_is_the_mean_of_the_worst_tenth() -> None:
    figures = told(*(n / 20 for n in range(20)))
    assert figures is not None
    assert figures["accuracy_worst_decile"] == 0.025  # of 0 and 0.05


def test_a_tenth_is_rounded_up() -> None:
    figures = told(0.1, *[1.0] * 9, 0.3)
    assert figures is not None
    assert figures["accuracy_worst_decile"] == 0.2


def test_the_last_word_of_a_device_counts() -> None:
    on_device = OnDevice()
    on_device.told("one", {"held_out_accuracy": 0.1})
    on_device.told("one", {"held_out_accuracy": 0.9})
    on_device.told("one", {})
    assert on_device.figures() == {
        "devices": 1,
        "accuracy_mean": 0.9,
        "accuracy_worst_decile": 0.9,
    }


@pytest.mark.parametrize("figure", [math.nan, math.inf, -0.1, 1.1, True, "0.5", None, [0.5]])
def test_what_is_no_accuracy_is_passed_over(figure: Any) -> None:
    assert told(figure) is None


def test_the_ends_of_the_range_are_accuracies() -> None:
    figures = told(0, 1.0)
    assert figures is not None
    assert figures["accuracy_mean"] == 0.5


def test_a_device_can_be_forgotten() -> None:
    on_device = OnDevice()
    on_device.told("one", {"held_out_accuracy": 0.1})
    on_device.forget("one")
    on_device.forget("nobody")
    assert on_device.figures() is None
