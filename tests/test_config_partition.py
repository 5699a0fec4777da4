"""The settings that say how images are cut."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from config.catalogue import catalogue
from config.partition import OF_KINDS, Partition


def test_an_even_partition_is_the_default() -> None:
    assert (Partition().kind, Partition().noise, Partition().held_out) == ("iid", 0.0, 0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({}, "evenly"),
        ({"noise": 0.1}, "evenly, noise up to 0.1"),
        ({"kind": "dirichlet", "alpha": 0.3}, "by Dirichlet(0.3)"),
        ({"kind": "dirichlet", "balanced": True}, "by Dirichlet(0.5), balanced"),
        ({"kind": "shards"}, "into shards, 2 labels a device"),
        (
            {"kind": "shards", "labels_per_device": 1, "noise": 0.05},
            "into shards, 1 label a device, noise up to 0.05",
        ),
        ({"kind": "quantity", "alpha": 0.1}, "in sizes by Dirichlet(0.1)"),
        ({"kind": "power_law", "exponent": 1.5}, "in sizes by a power law, exponent 1.5"),
    ],
)
def test_a_partition_tells_itself_in_words(values: dict[str, Any], words: str) -> None:
    assert Partition.model_validate(values).in_words() == words


def test_its_numbers_are_those_that_its_kind_makes_use_of() -> None:
    assert Partition(noise=0.2).numbers() == {"kind": "iid", "noise": 0.2, "held_out": 0.1}
    assert Partition(kind="shards").numbers() == {
        "kind": "shards",
        "labels_per_device": 2,
        "noise": 0.0,
        "held_out": 0.1,
    }


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "dirichlet", "alpha": 0.3, "balanced": True},
        {"kind": "power_law", "exponent": 2.0, "noise": 0.1},
    ],
)
def test_a_partition_is_the_same_again_from_its_numbers_or_from_all_it_holds(
    values: dict[str, Any],
) -> None:
    rule = Partition.model_validate(values)
    assert Partition.model_validate(rule.numbers()) == rule
    assert Partition.model_validate(rule.model_dump()) == rule


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"alpha": 0.3}, "alpha is for kind dirichlet or quantity, not iid"),
        ({"kind": "shards", "alpha": 0.3}, "alpha is for kind dirichlet or quantity, not shards"),
        ({"kind": "quantity", "balanced": True}, "balanced is for kind dirichlet, not quantity"),
        ({"labels_per_device": 3}, "labels_per_device is for kind shards, not iid"),
        ({"kind": "iid", "exponent": 2.0}, "exponent is for kind power_law, not iid"),
        ({"kind": "dirichlet", "alpha": 0}, "greater than 0"),
        ({"kind": "power_law", "exponent": -1}, "greater than or equal to 0"),
        ({"kind": "shards", "labels_per_device": 0}, "greater than or equal to 1"),
        ({"noise": -0.1}, "greater than or equal to 0"),
        ({"noise": float("nan")}, "finite"),
        ({"held_out": 1.0}, "less than 1"),
        ({"kind": "pathological"}, "Input should be"),
        ({"beta": 1}, "Extra inputs"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Partition.model_validate(values)


def test_what_is_of_some_kinds_only_says_so_in_its_description() -> None:
    for setting in catalogue(Partition).settings:
        for kind in OF_KINDS.get(setting.key, ()):
            assert kind in setting.description
