"""Training on one device: a straight loop of SGD over images in memory.

The same model, images, plan, seed and number of threads give the same bytes. There is no optimizer
object and, without momentum, no state beside the weights and their gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from config.sections import TrainingPlan
from learning.batches import augmented, normalized
from learning.checkpoint import Arrays, Checkpoint
from learning.outcomes import DivergenceError, MayGoOn, OnStep, Training, always

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
    checkpoint: Checkpoint | None = None,
    may_go_on: MayGoOn = always,
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
        checkpoint: where to save on the way, and what to go on with.
        may_go_on: asked after each step, with the number of steps that are done; where it says no,
            the training ends there, and what it gave counts. One step is always made.

    Raises:
        DivergenceError: the loss or a weight is no longer finite; the model is spoilt.
    """
    steps = count_steps(len(labels), plan)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    anchor = [weight.detach().clone() for weight in weights] if plan.proximal_mu else None
    velocity = [torch.zeros_like(weight) for weight in weights] if plan.momentum else None
    run = _Run(weights, velocity, _Order(len(labels), plan.batch_size, seed))
    if checkpoint is not None and (saved := checkpoint.resume()) is not None:
        run.restore(saved)
    model.train()
    while run.step < steps and (run.step == 0 or may_go_on(run.step)):
        picks = run.order.next()
        batch = augmented(images, picks, run.order.generator) if plan.augment else images[picks]
        targets = labels[picks]
        logits = model(normalized(batch))
        loss = functional.cross_entropy(logits, targets)
        value = loss.item()
        if not math.isfinite(value):
            raise DivergenceError(
                f"the loss became {value} at step {run.step + 1} of {steps}"
                f" (learning rate {plan.learning_rate:g})"
            )
        loss.backward()  # type: ignore[no-untyped-call]
        _descend(weights, anchor, velocity, plan, plan.learning_rate * schedule(run.step / steps))
        run.count(value, len(picks), int((logits.argmax(1) == targets).sum()))
        on_step(run.step / steps, value)
        if checkpoint is not None:
            checkpoint.offer(run.save)
    if not all(bool(torch.isfinite(weight).all()) for weight in weights):
        raise DivergenceError(f"weights are not finite (learning rate {plan.learning_rate:g})")
    return Training(
        examples=min(run.seen, len(labels)),
        steps=run.step,
        metrics={"train_loss": run.loss_sum / run.seen, "train_accuracy": run.hits / run.seen},
    )


def count_steps(examples: int, plan: TrainingPlan) -> int:
    """Steps of a whole training, at least one."""
    return max(1, round(plan.epochs * math.ceil(examples / plan.batch_size)))


class _Order:
    """Shuffled batches, epoch after epoch, without end; with the chance that augmentation uses.

    An epoch is cut evenly, so that no batch is left over that is much smaller than the others and
    yet moves the model as far.
    """

    def __init__(self, examples: int, batch_size: int, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self._parts = math.ceil(examples / batch_size)
        self._shuffled = torch.randperm(examples, generator=self.generator)
        self._next = 0

    def next(self) -> Tensor:
        """Indices of the next batch, int64[b]."""
        if self._next == self._parts:
            self._shuffled = torch.randperm(len(self._shuffled), generator=self.generator)
            self._next = 0
        # As tensor_split cuts: the first ones are longer by one, until nothing is left over.
        size, over = divmod(len(self._shuffled), self._parts)
        start = self._next * size + min(self._next, over)
        end = start + size + (self._next < over)
        self._next += 1
        return self._shuffled[start:end]

    def save(self) -> Arrays:
        return {
            "generator": self.generator.get_state().numpy(),
            "shuffled": self._shuffled.numpy(),
            "next": np.asarray(self._next),
        }

    def restore(self, saved: Arrays) -> None:
        self.generator.set_state(torch.from_numpy(saved["generator"]))
        self._shuffled = torch.from_numpy(saved["shuffled"])
        self._next = int(saved["next"])


class _Run:
    """Everything that changes while a training goes on."""

    def __init__(
        self, weights: list[nn.Parameter], velocity: list[Tensor] | None, order: _Order
    ) -> None:
        self.order = order
        self.step, self.seen, self.hits, self.loss_sum = 0, 0, 0, 0.0
        self._tensors = [*weights, *(velocity or [])]

    def count(self, loss: float, examples: int, hits: int) -> None:
        """One more step was made."""
        self.step += 1
        self.seen += examples
        self.hits += hits
        self.loss_sum += loss * examples

    def save(self) -> Arrays:
        """All of it as arrays."""
        tensors = {f"tensor-{i}": t.detach().numpy() for i, t in enumerate(self._tensors)}
        counts = np.asarray([self.step, self.seen, self.hits])
        sums = np.asarray([self.loss_sum])
        return {**self.order.save(), **tensors, "counts": counts, "sums": sums}

    @torch.no_grad()
    def restore(self, saved: Arrays) -> None:
        """Go on where `save` was called."""
        self.order.restore(saved)
        for i, tensor in enumerate(self._tensors):
            tensor.copy_(torch.from_numpy(saved[f"tensor-{i}"]))
        self.step, self.seen, self.hits = (int(n) for n in saved["counts"])
        self.loss_sum = float(saved["sums"][0])


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
