"""Who gets which examples."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learning.chunks import Labels
from learning.partition import by_dirichlet, counts_by_label, iid, split_held_out

LABELS = np.arange(1000) % 10


def cuts(seed: int = 0) -> dict[str, list[Labels]]:
    return {
        "iid": iid(LABELS, 7, seed=seed),
        "even": by_dirichlet(LABELS, 7, 1000.0, seed=seed),
        "skewed": by_dirichlet(LABELS, 7, 0.1, seed=seed),
        "extreme": by_dirichlet(LABELS, 7, 1e-6, seed=seed),
    }


@pytest.mark.parametrize("name", cuts())
def test_every_example_goes_to_exactly_one_device(name: str) -> None:
    parts = cuts()[name]
    assert len(parts) == 7
    assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(1000))


@pytest.mark.parametrize("name", cuts())
def test_the_same_seed_gives_the_same_parts_and_another_seed_others(name: str) -> None:
    first, again, other = cuts(1)[name], cuts(1)[name], cuts(2)[name]
    assert all(np.array_equal(left, right) for left, right in zip(first, again, strict=True))
    assert not all(np.array_equal(left, right) for left, right in zip(first, other, strict=True))


def test_an_even_cut_gives_sizes_that_differ_by_one_at_most() -> None:
    assert {len(part) for part in cuts()["iid"]} == {142, 143}


def test_a_smaller_alpha_leaves_fewer_labels_to_a_device() -> None:
    def spread(name: str) -> float:
        counts = counts_by_label(LABELS, cuts()[name], 10)
        return float((counts / counts.sum(axis=1, keepdims=True)).max(axis=1).mean())

    assert spread("even") < 0.15 < spread("skewed") < spread("extreme") + 0.05
    assert spread("skewed") > 0.3


@given(
    examples=st.integers(1, 300),
    devices=st.integers(1, 40),
    alpha=st.sampled_from([1e-9, 0.01, 0.5, 100.0]),
    seed=st.integers(0, 100),
)
def test_no_device_is_left_with_almost_nothing(
    examples: int, devices: int, alpha: float, seed: int
) -> None:
    labels = np.arange(examples) % 3
    devices = min(devices, examples)
    parts = by_dirichlet(labels, devices, alpha, seed=seed)
    assert min(map(len, parts)) >= min(10, examples // devices)
    assert sorted(np.concatenate(parts).tolist()) == list(range(examples))


@given(
    labels=st.lists(st.integers(0, 3), min_size=1, max_size=80),
    share=st.floats(0, 0.99),
    seed=st.integers(0, 100),
)
def test_a_held_out_part_has_its_share_and_leaves_something_to_train_on(
    labels: list[int], share: float, seed: int
) -> None:
    indices = np.arange(len(labels)) * 2
    everything = np.repeat(np.array(labels), 2)
    train, held_out = split_held_out(everything, indices, share, seed=seed)
    assert sorted([*train, *held_out]) == indices.tolist()
    assert len(held_out) == min(round(share * len(labels)), len(labels) - 1)


def test_a_held_out_part_has_the_labels_in_their_proportions() -> None:
    labels = np.array([0] * 60 + [1] * 30 + [2] * 10)
    _, held_out = split_held_out(labels, np.arange(100), 0.1, seed=3)
    assert np.bincount(labels[held_out]).tolist() == [6, 3, 1]


def test_no_share_holds_nothing_out() -> None:
    train, held_out = split_held_out(LABELS, np.arange(50), 0.0, seed=0)
    assert (len(train), len(held_out)) == (50, 0)


def test_counts_are_by_device_and_label() -> None:
    labels = np.array([0, 1, 1, 2])
    counts = counts_by_label(labels, [np.array([0, 1]), np.array([2, 3])], 4)
    assert counts.tolist() == [[1, 1, 0, 0], [0, 1, 1, 0]]
