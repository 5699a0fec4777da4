"""From uint8 images in memory to batches that a model takes, without loader processes.

Images lie with their channels last, uint8[n, height, width, 3]: a batch of them becomes float32
in torch's channels-last layout without another copy.
"""

from __future__ import annotations

import torch
from torch import Tensor

from learning.chunks import Images, Labels

SHIFT = 4

# Mean and deviation of the channels of CIFAR-10's training images, in units of 1/255.
_MEAN = torch.tensor([125.3, 123.0, 113.9])
_SCALE = 1 / torch.tensor([63.0, 62.1, 66.7])


def image_tensor(images: Images) -> Tensor:
    """uint8[n, 3, h, w] of a chunk as uint8[n, h, w, 3]."""
    return torch.from_numpy(images).permute(0, 2, 3, 1).contiguous()


def label_tensor(labels: Labels) -> Tensor:
    """int64[n] as a tensor that shares its memory."""
    return torch.from_numpy(labels)


def normalized(images: Tensor) -> Tensor:
    """uint8[b, h, w, 3] as Float32[b, 3, h, w], each channel about zero with unit deviation."""
    count, height, width, channels = images.shape
    # By whole rows of pixels: a loop over three channels would take four times as long.
    rows = images.reshape(count, height, width * channels).float()
    rows.sub_(_MEAN.repeat(width)).mul_(_SCALE.repeat(width))
    return rows.view(images.shape).permute(0, 3, 1, 2)


def augmented(images: Tensor, picks: Tensor, generator: torch.Generator) -> Tensor:
    """The picked images, each shifted by up to 4 pixels either way and flipped at random.

    What a shift uncovers repeats the edge. One gather of pixels does the picking, shift and flip.

    Args:
        images: uint8[n, h, w, 3]; contiguous, or they are copied each time.
        picks: int64[b], indices into images.
        generator: where the chance comes from.

    Returns:
        uint8[b, h, w, 3].
    """
    count, (height, width) = picks.numel(), images.shape[1:3]
    shifts = torch.randint(-SHIFT, SHIFT + 1, (2, count, 1), generator=generator)
    flips = torch.randint(0, 2, (count, 1), generator=generator).bool()
    rows = (torch.arange(height) + shifts[0]).clamp_(0, height - 1)
    columns = (torch.arange(width) + shifts[1]).clamp_(0, width - 1)
    columns = torch.where(flips, columns.flip(1), columns)
    pixels = ((picks[:, None] * height + rows) * width)[:, :, None] + columns[:, None, :]
    picked = images.reshape(-1, images.shape[3]).index_select(0, pixels.view(-1))
    return picked.view(count, height, width, -1)
