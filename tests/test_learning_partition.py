"""Who gets which examples."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.failures import ExitCode, Failure
from config.partition import Partition
from learning.chunks import Labels
from learning.partition import (
    by_dirichlet,
    by_shards,
    counts_by_label,
    iid,
    partition,
    split_held_out,
)

LABELS = np.arange(1000) % 10

RULES = st.one_of(
    st.just(Partition()),
    st.builds(
        Partition,
        kind=st.just("dirichlet"),
        alpha=st.sampled_from([1e-9, 0.01, 0.5, 100.0, 1e6]),
        balanced=st.booleans(),
    ),
    st.builds(Partition, kind=st.just("shards"), labels_per_device=st.integers(1, 5)),
    st.builds(Partition, kind=st.just("quantity"), alpha=st.sampled_from([1e-9, 0.01, 0.5, 1e6])),
    st.builds(Partition, kind=st.just("power_law"), exponent=st.sampled_from([0.0, 0.5, 1.0, 10])),
)


def cuts(seed: int = 0) -> dict[str, list[Labels]]:
    return {
        "iid": iid(LABELS, 7, seed=seed),
        "even": by_dirichlet(LABELS, 7, 1000.0, seed=seed),
        "skewed": by_dirichlet(LABELS, 7, 0.1, seed=seed),
        "extreme": by_dirichlet(LABELS, 7, 1e-6, seed=seed),
        "balanced": by_dirichlet(LABELS, 7, 0.1, balanced=True, seed=seed),
        "shards": by_shards(LABELS, 7, 3, seed=seed),
        "quantity": by_rule(7, kind="quantity", alpha=0.5, seed=seed),
        "power law": by_rule(7, kind="power_law", exponent=1.5, seed=seed),
    }


def by_rule(devices: int, *, seed: int = 0, **rule: Any) -> list[Labels]:
    return partition(LABELS, devices, Partition(**rule), seed=seed)


def digest(parts: tuple[Labels, ...] | list[Labels]) -> str:
    return hashlib.sha256(b"|".join(part.astype("<i8").tobytes() for part in parts)).hexdigest()[:8]


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


@given(
    rule=RULES,
    labels=st.lists(st.sampled_from([0, 1, 2, 4, 9]), min_size=1, max_size=200),
    devices=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_any_rule_gives_every_example_once_and_something_to_each_device_or_says_why_not(
    rule: Partition, labels: list[int], devices: int, seed: int
) -> None:
    everything = np.array(labels)
    try:
        parts = partition(everything, devices, rule, seed=seed)
    except Failure as refusal:
        failure = refusal
    else:
        assert len(parts) == devices
        assert all(part.dtype == np.int64 and part.size for part in parts)
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(labels)))
        assert digest(parts) == digest(partition(everything, devices, rule, seed=seed))
        return
    assert failure.code is ExitCode.USAGE
    assert "\n" not in failure.message
    assert devices > len(labels) or rule.kind == "shards"


def test_the_cuts_that_stored_results_rest_on_are_as_they_were() -> None:
    assert digest(iid(LABELS, 7, seed=5)) == "41c3b56b"
    assert digest(by_dirichlet(LABELS, 7, 0.3, seed=5)) == "1e5ef373"
    assert digest(by_dirichlet(LABELS, 40, 1e-6, seed=5)) == "d86fbc47"
    assert digest(split_held_out(LABELS, np.arange(0, 1000, 3), 0.2, seed=5)) == "2fd36cfe"


def test_a_rule_gives_what_its_kind_gives() -> None:
    assert digest(by_rule(7, seed=3)) == digest(iid(LABELS, 7, seed=3))
    ruled = by_rule(7, kind="dirichlet", alpha=0.3, balanced=True, seed=3)
    assert digest(ruled) == digest(by_dirichlet(LABELS, 7, 0.3, balanced=True, seed=3))
    ruled = by_rule(7, kind="shards", labels_per_device=4, seed=3)
    assert digest(ruled) == digest(by_shards(LABELS, 7, 4, seed=3))


def test_more_devices_than_images_are_refused() -> None:
    with pytest.raises(Failure, match="1001 devices cannot share 1000 training images") as caught:
        by_rule(1001)
    assert caught.value.code is ExitCode.USAGE


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
    alpha=st.sampled_from([1e-9, 0.1, 0.5, 100.0]),
    devices=st.integers(1, 40),
    seed=st.integers(0, 100),
)
def test_a_balanced_device_has_at_most_one_label_more_than_its_even_share(
    alpha: float, devices: int, seed: int
) -> None:
    parts = by_dirichlet(LABELS, devices, alpha, balanced=True, seed=seed)
    assert max(map(len, parts)) < 1000 / devices + 100
    assert sorted(np.concatenate(parts).tolist()) == list(range(1000))


def test_balance_makes_sizes_alike_and_leaves_the_labels_skewed() -> None:
    def spread(*, balanced: bool) -> float:
        seeds = range(10)
        cut = [by_dirichlet(LABELS, 20, 0.3, balanced=balanced, seed=seed) for seed in seeds]
        return float(np.mean([np.std([len(part) for part in parts]) for parts in cut]))

    assert spread(balanced=True) < 0.9 * spread(balanced=False)
    counts = counts_by_label(LABELS, by_dirichlet(LABELS, 20, 0.3, balanced=True, seed=0), 10)
    assert float((counts / counts.sum(axis=1, keepdims=True)).max(axis=1).mean()) > 0.3


@given(
    labels=st.lists(st.integers(0, 7), min_size=40, max_size=200),
    devices=st.integers(1, 40),
    each=st.integers(1, 8),
    seed=st.integers(0, 100),
)
def test_shards_leave_a_device_with_so_many_labels_at_most(
    labels: list[int], devices: int, each: int, seed: int
) -> None:
    everything = np.array(labels)
    try:
        parts = by_shards(everything, devices, each, seed=seed)
    except Failure:
        return
    assert max(len(np.unique(everything[part])) for part in parts) <= each
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(labels)))


@pytest.mark.parametrize("each", range(1, 11))
def test_shards_of_common_labels_give_each_device_exactly_so_many(each: int) -> None:
    counts = counts_by_label(LABELS, by_shards(LABELS, 20, each, seed=1), 10)
    assert set((counts > 0).sum(axis=1)) == {each}


def test_shards_divide_a_label_evenly_among_those_that_have_it() -> None:
    counts = counts_by_label(LABELS, by_shards(LABELS, 25, 3, seed=1), 10)
    for of_label in counts.T:
        owned = of_label[of_label > 0]
        assert owned.max() - owned.min() <= 1


def test_fewer_devices_than_labels_have_all_labels_between_them() -> None:
    counts = counts_by_label(LABELS, by_shards(LABELS, 4, 3, seed=0), 10)
    assert (counts.sum(axis=0) == 100).all()
    assert ((counts > 0).sum(axis=1) == 3).all()


def test_a_label_that_no_image_has_is_nobodys() -> None:
    labels = LABELS[(LABELS != 3) & (LABELS != 9)]
    counts = counts_by_label(labels, by_shards(labels, 8, 2, seed=0), 10)
    assert counts.sum(axis=0).tolist() == [100, 100, 100, 0, 100, 100, 100, 100, 100, 0]
    assert set((counts > 0).sum(axis=1)) == {2}


@pytest.mark.parametrize(
    ("devices", "each", "reason"),
    [
        (20, 11, "a device cannot have 11 labels where the images have 10"),
        (3, 3, "3 devices with 3 of 10 labels each leave labels to nobody"),
    ],
)
def test_labels_that_do_not_go_round_are_refused(devices: int, each: int, reason: str) -> None:
    with pytest.raises(Failure, match=reason) as caught:
        by_shards(LABELS, devices, each, seed=0)
    assert caught.value.code is ExitCode.USAGE


def test_what_does_not_divide_evenly_goes_to_those_that_have_least() -> None:
    parts = by_shards(np.array([0, 0, 0, 1, 1, 1]), 4, 2, seed=0)
    assert sorted(map(len, parts)) == [1, 1, 2, 2]


def test_a_label_too_rare_for_its_devices_is_told() -> None:
    labels = np.array([0] * 99 + [1])
    with pytest.raises(Failure, match="4 of 10 devices would get no image"):
        by_shards(labels, 10, 1, seed=0)


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
