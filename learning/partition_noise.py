"""Feature skew: each device sees the same kind of images through a sensor as noisy as its own."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from learning.chunks import Chunk, Images


def noise_levels(devices: int, noise: float) -> npt.NDArray[np.float64]:
    """float64[devices]: noise times i / N for device i = 1 to N.

    Noise-based feature imbalance of NIID-Bench (Li et al. 2021, arXiv:2102.02079): a standard
    deviation, as in its code, where 1 is full brightness.
    """
    return noise * (np.arange(1, devices + 1) / devices)


def noised_chunk(chunk: Chunk, level: float, *, device: int, seed: int) -> Chunk:
    """The chunk with this noise on its images, those to train on and those held out alike.

    Args:
        chunk: what the device has.
        level: standard deviation, 1 being full brightness; 0 leaves all as it is.
        device: its number; no two devices get the same noise.
        seed: decides the noise.
    """
    if not level:
        return chunk
    chance = np.random.default_rng([seed, 16, device])
    return replace(
        chunk,
        train_images=noised(chunk.train_images, level, chance),
        held_out_images=noised(chunk.held_out_images, level, chance),
    )


def noised(images: Images, level: float, chance: np.random.Generator) -> Images:
    """Images uint8[n, 3, 32, 32] with Gaussian noise, rounded, and clipped to 0 to 255.

    NIID-Bench draws new noise whenever it shows an image; here it is drawn once, as an image on a
    real device is what it is.
    """
    result = np.empty_like(images)
    for index, image in enumerate(images):  # one by one: memory for one image of floats
        shaken = image + chance.standard_normal(image.shape, np.float32) * np.float32(255 * level)
        result[index] = np.clip(np.rint(shaken), 0, 255)
    return result
