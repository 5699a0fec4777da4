"""The noise is normal, of the asked-for width, on every element, and nobody can make it again."""

from __future__ import annotations

from collections.abc import Callable
from statistics import NormalDist

import numpy as np
import pytest
import torch

from federation.compression import Vector
from learning import privacy
from learning.privacy import privatized

D = 200_003  # more than one block, and the last one is not whole


@pytest.fixture
def _seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same random bytes at each run, so that a test of chance never fails by chance."""
    monkeypatch.setattr(privacy, "urandom", np.random.default_rng(7).bytes)


@pytest.fixture
def _silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """No noise but its place: all that is left is the clipping."""
    monkeypatch.setattr(privacy, "_normal", np.zeros)


def vector(norm: float, d: int = D) -> Vector:
    chance = np.random.default_rng(1).normal(size=d)
    return (chance * norm / np.linalg.norm(chance)).astype(np.float32)


@pytest.mark.usefixtures("_silent")
def test_what_is_longer_than_the_clip_norm_is_shortened_to_it() -> None:
    delta = vector(30.0)
    clipped = privatized(delta, 2.5, 1.0)
    assert np.linalg.norm(clipped.astype(np.float64)) == pytest.approx(2.5, rel=1e-6)
    np.testing.assert_allclose(clipped, delta * (2.5 / 30), rtol=1e-5)


@pytest.mark.usefixtures("_silent")
@pytest.mark.parametrize("norm", [0.0, 1e-20, 1.0, 2.499])
def test_what_is_shorter_is_left_as_it_is(norm: float) -> None:
    delta = vector(norm)
    np.testing.assert_array_equal(privatized(delta, 2.5, 1.0), delta)


@pytest.mark.usefixtures("_silent")
def test_the_largest_numbers_are_clipped_too() -> None:
    delta = np.full(D, np.finfo(np.float32).max, np.float32)
    clipped = privatized(delta, 1.0, 1.0)
    assert np.linalg.norm(clipped.astype(np.float64)) == pytest.approx(1.0, rel=1e-6)


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize(("clip", "noise"), [(1.0, 1.0), (0.5, 4.0), (20.0, 0.1)])
def test_the_noise_is_normal_with_the_width_that_is_promised(clip: float, noise: float) -> None:
    told = privatized(np.zeros(D, np.float32), clip, noise).astype(np.float64) / (clip * noise)
    assert told.mean() == pytest.approx(0, abs=4 / np.sqrt(D))
    assert told.std() == pytest.approx(1, abs=4 / np.sqrt(2 * D))
    assert (told**3).mean() == pytest.approx(0, abs=4 * np.sqrt(15 / D))
    assert (told**4).mean() == pytest.approx(3, abs=4 * np.sqrt(96 / D))
    # Kolmogorov and Smirnov: the distance that chance exceeds once in ten thousand times.
    normal = NormalDist()
    cumulative = np.array([normal.cdf(value) for value in np.sort(told)])
    ranks = np.arange(D) / D
    distance = max(np.abs(cumulative - ranks).max(), np.abs(cumulative - ranks - 1 / D).max())
    assert distance < 2.23 / np.sqrt(D)


@pytest.mark.usefixtures("_seeded")
def test_the_noise_of_one_element_tells_nothing_of_another() -> None:
    told = privatized(np.zeros(D, np.float32), 1.0, 1.0).astype(np.float64)
    for lag in (1, 2, 3, 4, D // 4, D // 2, privacy._BLOCK, privacy._BLOCK // 2):
        for power in (1, 2):
            left, right = told[:-lag] ** power, told[lag:] ** power
            assert abs(np.corrcoef(left, right)[0, 1]) < 4 / np.sqrt(D - lag)


@pytest.mark.usefixtures("_seeded")
def test_the_noise_lies_around_the_clipped_vector() -> None:
    delta = vector(1000.0)
    told = privatized(delta, 500.0, 0.001)
    error = told.astype(np.float64) - delta.astype(np.float64) / 2
    assert error.std() == pytest.approx(0.5, rel=0.01)
    assert abs(np.corrcoef(error, delta)[0, 1]) < 4 / np.sqrt(D)


@pytest.mark.usefixtures("_seeded")
@pytest.mark.parametrize("d", [1, 2, 3, privacy._BLOCK, privacy._BLOCK + 1])
def test_every_element_of_a_vector_of_any_size_is_noised(d: int) -> None:
    told = privatized(np.zeros(d, np.float32), 1.0, 1.0)
    assert (told.shape, told.dtype) == ((d,), np.float32)
    assert np.isfinite(told).all()
    assert np.all(told != 0)


def seed_numpy() -> None:
    np.random.seed(5)


def seed_torch() -> None:
    torch.manual_seed(5)


@pytest.mark.parametrize("seed", [seed_numpy, seed_torch])
def test_no_seed_gives_the_same_noise_again(seed: Callable[[], None]) -> None:
    told = []
    for _ in range(2):
        seed()
        told.append(privatized(np.zeros(1000, np.float32), 1.0, 1.0))
    assert not np.any(told[0] == told[1])


def test_the_vector_that_came_is_left_alone() -> None:
    delta = vector(30.0, d=100)
    before = delta.copy()
    privatized(delta, 1.0, 1.0)
    np.testing.assert_array_equal(delta, before)
