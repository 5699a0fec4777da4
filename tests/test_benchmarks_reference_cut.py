"""The cut of NIID-Bench's authors, as their seeds draw it."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.reference_cut import LEAST, reference_cut
from config.partition import Partition
from learning.chunks import Labels

RULE = Partition(kind="dirichlet", alpha=0.5, balanced=True, held_out=0.0)
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(10), 500))


def labels_of(parts: list[Labels]) -> list[list[int]]:
    return [np.bincount(LABELS[part], minlength=10).tolist() for part in parts]


@pytest.mark.parametrize("seed", range(3))
def test_each_image_goes_to_one_party_and_each_party_has_some(seed: int) -> None:
    parts = reference_cut(LABELS, 10, RULE, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(LABELS)))
    assert min(map(len, parts)) >= LEAST


def test_the_first_label_is_divided_by_the_first_draw_of_the_older_generator() -> None:
    np.random.seed(1)
    np.random.shuffle(np.arange(500))
    shares = np.random.dirichlet(np.repeat(0.5, 10))
    ends = [*(np.cumsum(shares) * 500).astype(int)[:-1], 500]
    first = [counts[0] for counts in labels_of(reference_cut(LABELS, 10, RULE, seed=1))]
    assert first == np.diff([0, *ends]).tolist()


def test_who_has_its_share_of_images_gets_none_of_the_labels_to_come() -> None:
    for counts in labels_of(reference_cut(LABELS, 10, RULE, seed=2)):
        full = int(np.searchsorted(np.cumsum(counts), len(LABELS) / 10))
        assert not any(counts[full + 1 :])


def test_a_draw_that_leaves_a_party_with_too_few_is_drawn_again() -> None:
    few = np.repeat(np.arange(10), 13)
    parts = reference_cut(few, 10, RULE, seed=0)
    assert min(map(len, parts)) >= LEAST
    assert sum(map(len, parts)) == len(few)
