"""Local training, on toy models whose numbers can be checked in the head, and on real ones."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from config.sections import TrainingPlan
from learning.batches import normalized
from learning.models import build_model
from learning.outcomes import DivergenceError
from learning.training import constant, count_steps, half_cosine, train
from learning.vectors import vector_of
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")


def plan(**changes: object) -> TrainingPlan:
    plain: dict[str, object] = {
        "learning_rate": 0.1,
        "momentum": 0.0,
        "weight_decay": 0.0,
        "augment": False,
        "batch_size": 4,
    }
    return TrainingPlan.model_validate(plain | changes)


def some_images(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8, generator=generator)
    return images, torch.arange(count) % 10


class Offsets(nn.Module):
    """Logits that do not depend on the image: two numbers, both 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.offsets = nn.Parameter(torch.zeros(2))

    def forward(self, images: Tensor) -> Tensor:
        return self.offsets.expand(len(images), 2)


def trained_offsets(examples: int = 1, **changes: object) -> list[float]:
    """The offsets after training on examples of label 0."""
    model = Offsets()
    images, _ = some_images(examples)
    labels = torch.zeros(examples, dtype=torch.int64)
    train(model, images, labels, plan(**changes), seed=0, on_step=lambda done, loss: None)
    return vector_of(model).tolist()


def test_a_step_goes_down_the_gradient_times_the_rate() -> None:
    # Softmax of (0, 0) is one half each: the gradient for label 0 is (-0.5, 0.5).
    assert trained_offsets(learning_rate=0.1) == pytest.approx([0.05, -0.05])


def test_weight_decay_pulls_towards_zero() -> None:
    # Two steps at the same place give the pull something to act on: compare with none.
    free = trained_offsets(epochs=20, learning_rate=1.0)
    decayed = trained_offsets(epochs=20, learning_rate=1.0, weight_decay=0.5)
    assert 0 < decayed[0] < free[0]


def test_the_proximal_term_pulls_towards_the_received_model() -> None:
    free = trained_offsets(epochs=20, learning_rate=1.0)
    held = trained_offsets(epochs=20, learning_rate=1.0, proximal_mu=0.5)
    assert 0 < held[0] < free[0]


def test_a_strong_proximal_term_holds_a_second_step_back_exactly() -> None:
    # The first step leads to (0.5, -0.5). There the gradient g of label 0 is sigmoid(1) - 1, and
    # the pull is mu * 0.5.
    g = 1 / (1 + math.exp(-1)) - 1
    expected = 0.5 - (g + 0.4 * 0.5)
    model = Offsets()
    images, _ = some_images(1)
    steps = plan(epochs=2, learning_rate=1.0, proximal_mu=0.4)
    train(model, images, torch.zeros(1, dtype=torch.int64), steps, seed=0, on_step=_ignore)
    assert float(model.offsets.detach()[0]) == pytest.approx(expected)


def test_a_schedule_scales_the_rate_by_what_is_done() -> None:
    asked: list[float] = []

    def first_step_only(done: float) -> float:
        asked.append(done)
        return 1.0 if done == 0 else 0.0

    model = Offsets()
    images, _ = some_images(1)
    labels = torch.zeros(1, dtype=torch.int64)
    steps = plan(epochs=4, learning_rate=0.1)
    train(model, images, labels, steps, seed=0, on_step=_ignore, schedule=first_step_only)
    assert asked == [0, 0.25, 0.5, 0.75]
    assert vector_of(model).tolist() == pytest.approx([0.05, -0.05])


def test_the_schedules_are_flat_and_half_a_cosine() -> None:
    assert [constant(done) for done in (0, 0.5, 1)] == [1, 1, 1]
    assert [half_cosine(done) for done in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])


def test_momentum_goes_further_in_the_same_direction() -> None:
    plain = trained_offsets(epochs=5)
    driven = trained_offsets(epochs=5, momentum=0.9)
    assert driven[0] > plain[0] > 0


@pytest.mark.parametrize(
    ("examples", "batch_size", "epochs", "steps"),
    [(100, 10, 1.0, 10), (100, 10, 0.5, 5), (101, 10, 1.0, 11), (1, 32, 1.0, 1), (5, 32, 0.1, 1)],
)
def test_epochs_become_steps_at_least_one(
    examples: int, batch_size: int, epochs: float, steps: int
) -> None:
    assert count_steps(examples, plan(batch_size=batch_size, epochs=epochs)) == steps


def test_an_epoch_shows_each_example_once_in_batches_of_about_the_same_size() -> None:
    seen: list[int] = []
    sizes: list[int] = []

    class Watcher(Offsets):
        def forward(self, images: Tensor) -> Tensor:
            seen.extend(((images[:, 0, 0, 0] * 63.0 + 125.3).round().int()).tolist())
            sizes.append(len(images))
            return super().forward(images)

    images = torch.arange(33, dtype=torch.uint8)[:, None, None, None].expand(33, 32, 32, 3)
    labels = torch.zeros(33, dtype=torch.int64)
    train(Watcher(), images, labels, plan(batch_size=32), seed=0, on_step=_ignore)
    assert sorted(seen) == list(range(33))
    assert seen != sorted(seen)
    assert sizes == [17, 16]


def test_half_an_epoch_counts_only_the_examples_that_it_saw() -> None:
    images, _ = some_images(40)
    labels = torch.zeros(40, dtype=torch.int64)
    done = train(Offsets(), images, labels, plan(epochs=0.5), seed=0, on_step=_ignore)
    assert (done.examples, done.steps) == (20, 5)


def test_many_epochs_count_an_example_once() -> None:
    images, _ = some_images(8)
    labels = torch.zeros(8, dtype=torch.int64)
    done = train(Offsets(), images, labels, plan(epochs=3), seed=0, on_step=_ignore)
    assert (done.examples, done.steps) == (8, 6)


def test_progress_rises_to_one_with_a_loss_at_each_step() -> None:
    told: list[tuple[float, float]] = []
    images, _ = some_images(8)
    labels = torch.zeros(8, dtype=torch.int64)
    train(
        Offsets(),
        images,
        labels,
        plan(),
        seed=0,
        on_step=lambda done, loss: told.append((done, loss)),
    )
    assert [done for done, _ in told] == [0.5, 1.0]
    assert told[0][1] == pytest.approx(math.log(2))


def trained_vector(seed: int, **changes: object) -> np.ndarray:
    model = build_model("fast-cnn", seed=1)
    images, labels = some_images(48)
    train(model, images, labels, plan(augment=True, **changes), seed=seed, on_step=_ignore)
    return vector_of(model)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others() -> None:
    first = trained_vector(7)
    assert trained_vector(7).tobytes() == first.tobytes()
    assert trained_vector(8).tobytes() != first.tobytes()


def test_training_does_not_touch_the_random_state_of_torch() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    trained_vector(7)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("examples", [1, 2, 5])
def test_a_tiny_chunk_with_one_label_can_be_trained_on(examples: int) -> None:
    model = build_model("fast-cnn")
    images, _ = some_images(examples)
    labels = torch.full((examples,), 3)
    done = train(model, images, labels, plan(augment=True), seed=0, on_step=_ignore)
    assert done.examples == examples
    assert np.isfinite(vector_of(model)).all()


def test_a_model_learns_a_chunk_by_heart() -> None:
    model = build_model("fast-cnn")
    images, labels = some_images(20)
    hard = plan(epochs=40, learning_rate=0.05)
    done = train(model, images, labels, hard, seed=0, on_step=_ignore)
    again = train(model, images, labels, plan(learning_rate=1e-9), seed=0, on_step=_ignore)
    assert again.metrics["train_accuracy"] > done.metrics["train_accuracy"]
    assert again.metrics["train_loss"] < 0.1


def test_a_loss_that_is_not_finite_ends_the_training_with_its_step() -> None:
    images, labels = some_images(40)
    with pytest.raises(DivergenceError, match=r"loss became .* at step \d+ of \d+ .*rate 100\)"):
        train(
            build_model("tutorial-cnn"),
            images,
            labels,
            plan(learning_rate=100, epochs=20),
            seed=0,
            on_step=_ignore,
        )


def test_weights_that_the_last_step_spoils_are_noticed() -> None:
    class Spoilt(Offsets):
        def forward(self, images: Tensor) -> Tensor:
            # The loss is finite, its gradient is not.
            return torch.sqrt(self.offsets.abs()).expand(len(images), 2)

    images, _ = some_images(1)
    with pytest.raises(DivergenceError, match="weights are not finite"):
        train(Spoilt(), images, torch.zeros(1, dtype=torch.int64), plan(), seed=0, on_step=_ignore)


def _ignore(done: float, loss: float) -> None:
    pass


# A budget of time


def test_a_training_ends_at_the_first_step_after_which_it_may_not_go_on() -> None:
    model = Offsets()
    images, _ = some_images(40)
    labels = torch.zeros(40, dtype=torch.int64)
    asked: list[int] = []

    def may_go_on(steps: int) -> bool:
        asked.append(steps)
        return steps < 3

    told: list[float] = []
    result = train(
        model,
        images,
        labels,
        plan(batch_size=8),
        seed=0,
        on_step=lambda done, loss: told.append(done),
        may_go_on=may_go_on,
    )
    assert asked == [1, 2, 3]
    assert (result.steps, result.examples) == (3, 24)
    assert told == pytest.approx([0.2, 0.4, 0.6])


def test_one_step_is_made_however_little_time_there_is() -> None:
    images, labels = some_images(40)
    result = train(
        build_model("fast-cnn"),
        images,
        labels,
        plan(batch_size=8),
        seed=0,
        on_step=_ignore,
        may_go_on=lambda steps: False,
    )
    assert (result.steps, result.examples) == (1, 8)


def test_what_a_budget_cuts_short_is_the_beginning_of_the_whole() -> None:
    images, labels = some_images(40)
    cut, whole = build_model("fast-cnn", seed=1), build_model("fast-cnn", seed=1)
    steps = plan(batch_size=8, momentum=0.9)
    train(cut, images, labels, steps, seed=0, on_step=_ignore, may_go_on=lambda n: n < 2)
    shorter = plan(batch_size=8, momentum=0.9, epochs=2 / 5)
    train(whole, images, labels, shorter, seed=0, on_step=_ignore)
    assert vector_of(cut).tobytes() == vector_of(whole).tobytes()


def test_each_step_of_fedprox_is_that_of_the_loss_with_the_proximal_term() -> None:
    """Against torch's own derivative of loss + mu / 2 |w - w0|^2 (arXiv:1812.06127, 2)."""
    images, labels = some_images(24)
    made, oracle = build_model("fast-cnn", seed=1), build_model("fast-cnn", seed=1)
    settings = plan(batch_size=8, learning_rate=0.05, proximal_mu=0.7, weight_decay=0.01)
    train(made, images, labels, settings, seed=3, on_step=_ignore)

    anchor = [weight.detach().clone() for weight in oracle.parameters()]
    shuffled = torch.randperm(24, generator=torch.Generator().manual_seed(3))
    optimizer = torch.optim.SGD(oracle.parameters(), lr=0.05, weight_decay=0.01)
    oracle.train()
    for picks in shuffled.tensor_split(3):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(oracle(normalized(images[picks])), labels[picks])
        pull = sum(
            ((weight - fixed) ** 2).sum()
            for weight, fixed in zip(oracle.parameters(), anchor, strict=True)
        )
        (loss + 0.7 / 2 * pull).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    np.testing.assert_allclose(vector_of(made), vector_of(oracle), atol=1e-6)
