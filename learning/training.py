"""Training on one device: a straight loop of SGD over images in memory.

The same model, images, plan, seed and number of threads give the same bytes. There is no optimizer
object and, without momentum, no state beside the weights and their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from config.sections import TrainingPlan
from learning.batches import augmented, normalized
from learning.outcomes import DivergenceError, OnStep, Training

Schedule: TypeAlias = Callable[[float], float]


def constant(done: float) -> float:
    """The plan's learning rate throughout, as federated training does best with.

    What a falling rate gains at the end of a training, averaging the updates gains too; and the
    slow steps are lost to a device that sees few of them (docs/decisions/0003-the-built-in-cnn.md).
    """
    return 1.0


def half_cosine(done: float) -> float:
    """From the plan's learning rate towards zero (Loshchilov and Hutter 2016, arXiv:1608.03983)."""
    return 0.5 * (1 + math.cos(math.pi * done))


def train(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    plan: TrainingPlan,
    *,
    seed: int,
    on_step: OnStep,
    schedule: Schedule = constant,
) -> Training:
    """Train `model` in place.

    Args:
        model: takes Float32[b, 3, h, w], gives logits.
        images: uint8[n, h, w, 3], n >= 1.
        labels: int64[n].
        plan: epochs (may be a fraction), batch size, rates, augmentation.
        seed: decides the order of the examples and the augmentation.
        on_step: told after each step: the share that is done, 0 to 1, and the loss of the batch.
        schedule: factor of the plan's learning rate, by the share of the training that is done.

    Raises:
        DivergenceError: the loss or a weight is no longer finite; the model is spoilt.
    """
    generator = torch.Generator().manual_seed(seed)
    steps = count_steps(len(labels), plan)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    anchor = [weight.detach().clone() for weight in weights] if plan.proximal_mu else None
    velocity = [torch.zeros_like(weight) for weight in weights] if plan.momentum else None
    seen, loss_sum, hits = 0, 0.0, 0
    model.train()
    for step, picks in zip(range(steps), _batches(len(labels), plan, generator), strict=False):
        batch = augmented(images, picks, generator) if plan.augment else images[picks]
        targets = labels[picks]
        logits = model(normalized(batch))
        loss = functional.cross_entropy(logits, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss became {value} at step {step + 1} of {steps}"
                f" (learning rate {plan.learning_rate:g})"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        _descend(weights, anchor, velocity, plan, plan.learning_rate * schedule(step / steps))
        seen += len(picks)
        loss_sum += value * len(picks)
        hits += int((logits.argmax(1) == targets).sum())
        on_step((step + 1) / steps, value)
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise DivergenceError(f"weights are not finite (learning rate {plan.learning_rate:g})")
    return Training(
        examples=min(seen, len(labels)),
        steps=steps,
        metrics={"train_loss": loss_sum / seen, "train_accuracy": hits / seen},
    )


def count_steps(examples: int, plan: TrainingPlan) -> int:
    """Steps of a whole training, at least one."""
    return max(1, round(plan.epochs * math.ceil(examples / plan.batch_size)))


def _batches(examples: int, plan: TrainingPlan, generator: torch.Generator) -> Iterator[Tensor]:
    """Shuffled batches, epoch after epoch, without end.

    An epoch is cut evenly, so that no batch is left over that is much smaller than the others and
    yet moves the model as far.
    """
    parts = math.ceil(examples / plan.batch_size)
    while True:
        yield from torch.randperm(examples, generator=generator).tensor_split(parts)


@torch.no_grad()
def _descend(
    weights: list[nn.Parameter],
    anchor: list[Tensor] | None,
    velocity: list[Tensor] | None,
    plan: TrainingPlan,
    rate: float,
) -> None:
    """One step of SGD; FedProx pulls towards the anchor (Li et al. 2018, arXiv:1812.06127)."""
    for index, weight in enumerate(weights):
        gradient = weight.grad
        if gradient is None:
            continue
        if plan.weight_decay:
            gradient.add_(weight, alpha=plan.weight_decay)
        if anchor is not None:
            gradient.add_(weight - anchor[index], alpha=plan.proximal_mu)
        if velocity is not None:
            gradient = velocity[index].mul_(plan.momentum).add_(gradient)
        weight.add_(gradient, alpha=-rate)
        weight.grad = None
