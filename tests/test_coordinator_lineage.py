"""Which versions are kept, and what is known of them."""

from __future__ import annotations

from coordinator.lineage import Kept, Lineage
from tests.story import evaluation, first_part, version


def test_a_tested_version_is_kept_with_what_it_is_made_of() -> None:
    lineage = Lineage("tested", "ledger")
    lineage.take(version(1, "one", "two"))
    lineage.take(version(2, "two"))
    assert lineage.take(evaluation(2, 0.5)) == Kept(
        2,
        ("version-2", "best"),
        {
            "version": 2,
            "accuracy": 0.5,
            "loss": 1.5,
            "examples": 12,
            "updates": 3,
            "devices": 2,
            "base_version": 1,
            "made_of": ["two"],
            "ledger": "ledger",
        },
    )


def test_a_version_is_told_as_it_was_though_later_ones_are_made_already() -> None:
    lineage = Lineage("tested", "ledger")
    lineage.take(version(1, "one"))
    lineage.take(version(2, "one", "two"))
    kept = lineage.take(evaluation(1, 0.5))
    assert kept is not None
    assert (kept.facts["updates"], kept.facts["devices"]) == (1, 1)


def test_only_the_best_so_far_is_called_so() -> None:
    lineage = Lineage("tested", "ledger")
    kept = [lineage.take(evaluation(n, accuracy)) for n, accuracy in enumerate((0.5, 0.4, 0.5))]
    assert ["best" in one.aliases for one in kept if one] == [True, False, True]


def test_the_last_one_is_kept_at_the_end_and_once() -> None:
    lineage = Lineage("last", "ledger")
    assert [lineage.take(row) for row in first_part()] == [None] * len(first_part())
    kept = lineage.close()
    assert kept is not None
    assert kept.version == 3
    assert lineage.close() is None


def test_what_an_earlier_start_tested_is_not_kept_again() -> None:
    lineage = Lineage("last", "ledger")
    lineage.take(evaluation(1, 0.5))
    lineage.begin()
    assert lineage.close() is None


def test_none_is_kept_where_none_is_wanted() -> None:
    lineage = Lineage("off", "ledger")
    assert {lineage.take(row) for row in first_part()} == {None}
    assert lineage.close() is None
