"""Testing a model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from learning.evaluation import BATCH_SIZE, evaluate
from learning.outcomes import MOST_SAMPLES
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


def test_a_test_tells_which_classes_are_taken_for_which() -> None:
    labels = torch.tensor([0, 0, 1, 1, 1])
    result = evaluate(Says(1, 0), images(5), labels, on_step=_ignore, class_names=("cat", "dog"))
    assert result.classes == ("cat", "dog")
    assert result.confusion == ((2, 0), (3, 0))


def test_a_class_without_a_name_has_its_number() -> None:
    result = evaluate(
        Says(0, 0, 1, 0), images(1), torch.tensor([0]), on_step=_ignore, class_names=("cat",)
    )
    assert result.classes == ("cat", "class 1", "class 2")
    assert result.confusion == ((0, 0, 1), (0, 0, 0), (0, 0, 0))


def test_samples_lie_evenly_over_the_images_and_are_few() -> None:
    count = 10 * MOST_SAMPLES
    labels = torch.arange(count) // (count // 2)
    result = evaluate(Says(math.log(3), 0), images(count), labels, on_step=_ignore)
    assert result.samples.index == tuple(range(0, count, 10))
    assert set(result.samples.guess) == {0}
    assert result.samples.truth == tuple(int(label) for label in labels[::10])
    assert result.samples.confidence == pytest.approx([0.75] * MOST_SAMPLES)


def test_few_images_are_all_samples() -> None:
    result = evaluate(Says(1, 0), images(3), torch.zeros(3, dtype=torch.int64), on_step=_ignore)
    assert result.samples.index == (0, 1, 2)


def test_a_model_that_is_sure_of_nothing_can_be_shown() -> None:
    result = evaluate(Says(math.nan, 0), images(1), torch.tensor([1]), on_step=_ignore)
    assert result.samples.confidence == (0.0,)


def _ignore(done: float, loss: float) -> None:
    pass
