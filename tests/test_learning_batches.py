"""Batches: normalization and augmentation."""

from __future__ import annotations

import numpy as np
import torch

from learning.batches import SHIFT, augmented, image_tensor, normalized


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_images_of_a_chunk_get_their_channels_last() -> None:
    images = np.zeros((2, 3, 4, 5), np.uint8)
    images[1, 2, 3, 4] = 9
    tensor = image_tensor(images)
    assert tensor.shape == (2, 4, 5, 3)
    assert tensor[1, 3, 4, 2] == 9


def test_a_batch_is_float32_with_channels_first_in_the_channels_last_layout() -> None:
    batch = normalized(torch.zeros(2, 32, 32, 3, dtype=torch.uint8))
    assert (batch.shape, batch.dtype) == ((2, 3, 32, 32), torch.float32)
    assert batch.is_contiguous(memory_format=torch.channels_last)


def test_the_mean_colour_becomes_zero_and_black_about_minus_two() -> None:
    colour = torch.tensor([125, 123, 114], dtype=torch.uint8).expand(1, 2, 2, 3)
    assert normalized(colour).abs().max() < 0.01
    assert torch.allclose(normalized(colour * 0), torch.tensor(-1.9), atol=0.3)


def test_augmented_images_are_those_that_were_picked() -> None:
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 32, 32, 3)
    batch = augmented(images, torch.tensor([3, 0, 3]), generator())
    assert [sorted(set(image.flatten().tolist())) for image in batch] == [[3], [0], [3]]


def test_every_augmentation_is_a_shift_with_repeated_edges_and_perhaps_a_mirror() -> None:
    image = torch.randint(0, 256, (1, 32, 32, 3), dtype=torch.uint8, generator=generator())
    padded = torch.from_numpy(
        np.pad(image[0].numpy(), ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    )
    size = 2 * SHIFT + 1
    crops = [padded[y : y + 32, x : x + 32] for y in range(size) for x in range(size)]
    possible = {crop.numpy().tobytes() for crop in crops}
    possible |= {crop.flip(1).contiguous().numpy().tobytes() for crop in crops}
    batch = augmented(image, torch.zeros(2000, dtype=torch.int64), generator(1))
    # 162 different outcomes, each of them found in 2,000 draws.
    assert {one.numpy().tobytes() for one in batch} == possible


def test_the_same_generator_gives_the_same_augmentation() -> None:
    images = torch.randint(0, 256, (4, 32, 32, 3), dtype=torch.uint8, generator=generator())
    picks = torch.tensor([0, 1, 2, 3])
    first, again, other = (augmented(images, picks, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
