"""The chunks of a partition."""

from __future__ import annotations

import numpy as np
import pytest

from config.failures import Failure
from config.partition import Partition
from learning.chunks import Chunk, Labels
from learning.generated import generated_images
from learning.partition import partition, split_held_out
from learning.partition_chunks import device_chunks

IMAGES = generated_images(train=200, test=10, seed=1)


def chunks(rule: Partition, devices: int = 4, seed: int = 2) -> list[Chunk]:
    return list(device_chunks(IMAGES, devices, rule, seed=seed))


def test_a_chunk_is_its_part_divided() -> None:
    rule = Partition(kind="dirichlet", alpha=0.5, held_out=0.2)
    parts = partition(IMAGES.train_labels, 4, rule, seed=2)
    for chunk, part in zip(chunks(rule), parts, strict=True):
        train, held_out = split_held_out(IMAGES.train_labels, part, 0.2, seed=2)
        assert np.array_equal(chunk.train_images, IMAGES.train_images[train])
        assert np.array_equal(chunk.held_out_images, IMAGES.train_images[held_out])
        assert np.array_equal(chunk.train_labels, IMAGES.train_labels[train])
        assert np.array_equal(chunk.held_out_labels, IMAGES.train_labels[held_out])
        assert chunk.generated


@pytest.mark.parametrize("kind", ["iid", "dirichlet", "shards", "quantity", "power_law"])
def test_noise_changes_pixels_and_not_who_gets_what(kind: str) -> None:
    plain = chunks(
        Partition.model_validate(
            {"kind": kind, "labels_per_device": 2} if kind == "shards" else {"kind": kind}
        ),
        devices=5,
    )
    noisy = chunks(Partition.model_validate({"kind": kind, "noise": 0.1}), devices=5)
    changes = []
    for before, after in zip(plain, noisy, strict=True):
        assert np.array_equal(before.train_labels, after.train_labels)
        assert np.array_equal(before.held_out_labels, after.held_out_labels)
        difference = after.train_images.astype(np.float64) - before.train_images
        changes.append(float(np.abs(difference).mean()))
    assert changes == sorted(set(changes))


def test_what_cannot_be_cut_is_told_before_the_first_chunk_is_asked_for() -> None:
    with pytest.raises(Failure, match="201 devices cannot share 200 training images"):
        device_chunks(IMAGES, 201, Partition(), seed=0)


def test_another_cut_may_carry_out_the_rule() -> None:
    def halves(labels: Labels, devices: int, rule: Partition, *, seed: int) -> list[Labels]:
        return np.array_split(np.arange(len(labels)), devices)

    first, second = device_chunks(IMAGES, 2, Partition(held_out=0.0), seed=0, cut=halves)
    assert np.array_equal(first.train_images, IMAGES.train_images[:100])
    assert np.array_equal(second.train_labels, IMAGES.train_labels[100:])
