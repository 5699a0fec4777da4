"""Devices whose images are noisier than others'."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.chunks import Chunk
from learning.partition_noise import noise_levels, noised, noised_chunk

GREY = np.full((40, 3, 32, 32), 128, np.uint8)


def chunk() -> Chunk:
    return Chunk(GREY[:30], np.zeros(30, np.int64), GREY[:10], np.zeros(10, np.int64), ("a",), True)


@given(devices=st.integers(1, 500), noise=st.floats(1e-6, 1))
def test_levels_rise_from_device_to_device_up_to_the_noise(devices: int, noise: float) -> None:
    levels = noise_levels(devices, noise)
    assert len(levels) == devices
    assert levels[0] > 0
    assert (np.diff(levels) > 0).all()
    assert levels[-1] == noise


def test_levels_are_sigma_i_over_n() -> None:
    assert noise_levels(4, 0.2) == pytest.approx([0.05, 0.1, 0.15, 0.2])
    assert noise_levels(3, 0).tolist() == [0, 0, 0]


@pytest.mark.parametrize("level", [0.01, 0.05, 0.1])
def test_noise_has_its_standard_deviation_and_no_bias(level: float) -> None:
    shaken = noised(GREY, level, np.random.default_rng(0)).astype(np.float64) - 128
    assert shaken.std() / 255 == pytest.approx(level, rel=0.01)
    assert shaken.mean() == pytest.approx(0, abs=0.3)


def test_noise_is_clipped_and_never_wraps_around() -> None:
    images = np.zeros((2, 3, 32, 32), np.uint8)
    images[1] = 255
    dark, bright = noised(images, 0.1, np.random.default_rng(0))
    assert dark.max() < 150
    assert bright.min() > 105
    assert (dark == 0).mean() == pytest.approx(0.5, abs=0.05)
    assert (bright == 255).mean() == pytest.approx(0.5, abs=0.05)


def test_both_parts_of_a_chunk_get_noise_and_its_labels_stay() -> None:
    shaken = noised_chunk(chunk(), 0.1, device=0, seed=0)
    assert shaken.train_images.std() > 20
    assert shaken.held_out_images.std() > 20
    assert shaken.train_images.dtype == np.uint8
    assert shaken.train_labels is not None
    assert np.array_equal(shaken.train_labels, chunk().train_labels)
    assert (GREY == 128).all()


def test_the_same_seed_gives_the_same_noise_and_another_device_another() -> None:
    first, again, neighbour, other = (
        noised_chunk(chunk(), 0.1, device=device, seed=seed).train_images
        for device, seed in ((1, 5), (1, 5), (2, 5), (1, 6))
    )
    assert np.array_equal(first, again)
    assert not np.array_equal(first, neighbour)
    assert not np.array_equal(first, other)


def test_no_noise_leaves_the_chunk_as_it_is() -> None:
    plain = chunk()
    assert noised_chunk(plain, 0.0, device=3, seed=0) is plain


def test_no_images_take_no_noise() -> None:
    assert noised(GREY[:0], 0.5, np.random.default_rng(0)).shape == (0, 3, 32, 32)
