"""What each device of a partition holds: its part, divided, with its noise, as a chunk."""

from __future__ import annotations

from collections.abc import Iterator

from config.partition import Partition
from learning.chunks import Chunk
from learning.data import ImageSet, device_chunk
from learning.partition import Cut, partition, split_held_out
from learning.partition_noise import noise_levels, noised_chunk


def device_chunks(
    images: ImageSet, devices: int, rule: Partition, *, seed: int, cut: Cut = partition
) -> Iterator[Chunk]:
    """The chunk of each device in turn, each made when it is asked for.

    Files for real devices and the data of simulated ones come from here: the same images, rule
    and seed are the same chunks in both.

    Args:
        images: the whole set; only its training images are given out.
        devices: number of chunks.
        rule: who gets what.
        seed: decides all chance.
        cut: what carries out the rule.

    Raises:
        Failure: these images cannot be cut so (at once, not when the first chunk is asked for).
    """
    labels = images.train_labels
    parts = cut(labels, devices, rule, seed=seed)
    levels = noise_levels(devices, rule.noise)

    def chunks() -> Iterator[Chunk]:
        for device, (part, level) in enumerate(zip(parts, levels, strict=True)):
            train, held_out = split_held_out(labels, part, rule.held_out, seed=seed)
            chunk = device_chunk(images, train, held_out)
            yield noised_chunk(chunk, float(level), device=device, seed=seed)

    return chunks()
