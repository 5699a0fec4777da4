"""What a test comes to, as a row of a report has it."""

from __future__ import annotations

import json

import pytest

from learning.outcomes import MOST_CLASSES, MOST_SAMPLES, Evaluation, Samples, findings

CATS_AND_DOGS = Evaluation(
    4,
    {"accuracy": 0.75},
    ("cat", "dog", "owl"),
    ((1, 1, 0), (0, 2, 0), (0, 0, 0)),
    Samples((0, 3), (0, 1), (1, 1), (0.123456, 1.0)),
)


def test_findings_are_json() -> None:
    assert json.loads(json.dumps(findings(CATS_AND_DOGS))) == {
        "examples": 4,
        "classes": ["cat", "dog", "owl"],
        "recall": {"cat": 0.5, "dog": 1.0},
        "confusion": [[1, 1, 0], [0, 2, 0], [0, 0, 0]],
        "samples": {
            "index": [0, 3],
            "truth": [0, 1],
            "guess": [1, 1],
            "confidence": [0.1235, 1.0],
        },
    }


def test_a_class_that_was_not_tested_has_no_recall() -> None:
    assert "owl" not in findings(CATS_AND_DOGS)["recall"]


def test_a_task_without_classes_has_found_nothing_else() -> None:
    assert findings(Evaluation(4, {"perplexity": 20.0})) == {"examples": 4}


def test_of_many_classes_there_is_recall_and_no_matrix() -> None:
    count = MOST_CLASSES + 1
    matrix = tuple(tuple(int(row == column) for column in range(count)) for row in range(count))
    names = tuple(f"class {n}" for n in range(count))
    found = findings(Evaluation(count, {}, names, matrix))
    assert found.keys() == {"examples", "recall"}
    assert len(found["recall"]) == count


def test_of_many_samples_the_first_are_told() -> None:
    many = tuple(range(MOST_SAMPLES + 1))
    zeros = (0,) * len(many)
    evaluation = Evaluation(40, {}, ("cat",), (), Samples(many, zeros, zeros, (0.5,) * len(many)))
    assert findings(evaluation)["samples"]["index"] == list(range(MOST_SAMPLES))


@pytest.mark.parametrize(
    ("classes", "confusion", "samples", "fault"),
    [
        (("cat",), ((1, 0), (0, 1)), Samples(), "a matrix of another size"),
        (("cat", "dog"), ((1, 0), (0,)), Samples(), "a matrix of another size"),
        (("cat",), (), Samples((0,), (1,), (0,), (0.5,)), "samples of others"),
        (("cat",), (), Samples((0,), (0,), (-1,), (0.5,)), "samples of others"),
        (("cat",), (), Samples((0, 1), (0,), (0,), (0.5,)), "different lengths"),
    ],
)
def test_what_cannot_be_shown_is_refused_where_it_is_made(
    classes: tuple[str, ...],
    confusion: tuple[tuple[int, ...], ...],
    samples: Samples,
    fault: str,
) -> None:
    with pytest.raises(ValueError, match=fault):
        Evaluation(1, {}, classes, confusion, samples)
