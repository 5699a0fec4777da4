"""Invitations: everyone can compute them, and the share of the invited is as the header says."""

from __future__ import annotations

from itertools import pairwise
from math import sqrt

import pytest

from federation.invitation import is_invited

DEVICES = [f"device-{n}" for n in range(10_000)]


def invited(version: int, draw: int, fraction: float) -> set[str]:
    return {device for device in DEVICES if is_invited(device, version, draw, fraction)}


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("version", [0, 1, 1000])
def test_the_share_of_the_invited_is_the_fraction(fraction: float, version: int) -> None:
    # Four standard deviations of 10,000 fair draws; the hash makes the outcome always the same.
    spread = 4 * sqrt(10_000 * fraction * (1 - fraction))
    assert abs(len(invited(version, 0, fraction)) - 10_000 * fraction) < spread


def test_with_a_fraction_of_one_everybody_is_invited() -> None:
    assert invited(3, 0, 1.0) == set(DEVICES)


def test_who_is_invited_to_a_smaller_share_is_invited_to_a_larger_one() -> None:
    shares = [invited(5, 2, fraction) for fraction in (0.05, 0.2, 0.5, 0.8, 1.0)]
    assert all(less < more for less, more in pairwise(shares))


def test_another_version_invites_others() -> None:
    # Independent halves overlap in a quarter of all: 2,500, give or take 4 standard deviations.
    assert abs(len(invited(1, 0, 0.5) & invited(2, 0, 0.5)) - 2500) < 175


def test_another_draw_for_the_same_version_invites_others() -> None:
    assert abs(len(invited(1, 0, 0.5) & invited(1, 1, 0.5)) - 2500) < 175


def test_version_and_draw_are_not_interchangeable() -> None:
    assert invited(1, 0, 0.5) != invited(0, 1, 0.5)


def test_an_invitation_is_the_same_on_every_machine() -> None:
    chosen = [device for device in DEVICES[:10] if is_invited(device, 7, 0, 0.3)]
    assert chosen == ["device-2", "device-6", "device-9"]
