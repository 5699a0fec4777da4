"""Testing a model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from learning.evaluation import BATCH_SIZE, evaluate
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


class Says(nn.Module):
    """The same logits for every image."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits, dtype=torch.float32))

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.expand(len(images), len(self.logits))


def images(count: int) -> Tensor:
    return torch.zeros(count, 32, 32, 3, dtype=torch.uint8)


def test_accuracy_and_loss_are_means_over_all_examples() -> None:
    # log(3) and 0: probabilities 3/4 and 1/4.
    labels = torch.tensor([0, 0, 0, 1])
    result = evaluate(Says(math.log(3), 0), images(4), labels, on_step=_ignore)
    assert result.examples == 4
    assert result.metrics["accuracy"] == 0.75
    expected = -(3 * math.log(0.75) + math.log(0.25)) / 4
    assert result.metrics["loss"] == pytest.approx(expected)


def test_a_last_batch_that_is_smaller_counts_by_its_examples() -> None:
    count = BATCH_SIZE + 1
    labels = torch.zeros(count, dtype=torch.int64)
    labels[-1] = 1
    result = evaluate(Says(1, 0), images(count), labels, on_step=_ignore)
    assert result.metrics["accuracy"] == BATCH_SIZE / count


def test_progress_ends_at_one() -> None:
    told: list[float] = []
    labels = torch.zeros(BATCH_SIZE + 1, dtype=torch.int64)
    evaluate(Says(1, 0), images(len(labels)), labels, on_step=lambda done, loss: told.append(done))
    assert len(told) == 2
    assert told[0] < told[1] == 1.0


def test_no_examples_give_no_figures() -> None:
    labels = torch.zeros(0, dtype=torch.int64)
    result = evaluate(Says(1, 0), images(0), labels, on_step=_ignore)
    assert (result.examples, result.metrics) == (0, {})


def test_a_loss_that_is_not_finite_is_left_out() -> None:
    result = evaluate(Says(math.nan, 0), images(1), torch.tensor([1]), on_step=_ignore)
    assert result.metrics.keys() == {"accuracy"}


def _ignore(done: float, loss: float) -> None:
    pass
