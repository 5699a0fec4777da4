"""Testing a model on images that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.batches import normalized
from learning.outcomes import MOST_SAMPLES, Evaluation, OnStep, Samples

# Enough for speed; a device need not find memory for the activations of more.
BATCH_SIZE = 32


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    on_step: OnStep,
    class_names: Sequence[str] = (),
) -> Evaluation:
    """Mean cross-entropy, share of right answers, and which classes are taken for which.

    A loss that is not finite is left out. Samples lie evenly over the images: the same ones each
    time.

    Args:
        model: takes Float32[b, 3, h, w], gives logits Float32[b, c].
        images: uint8[n, h, w, 3]; none of them gives no figures.
        labels: int64[n].
        on_step: told after each batch: the share that is done and the loss of the batch.
        class_names: of the first classes; a model may have room for more of them.
    """
    was_training = model.training
    model.eval()
    total, loss_sum = len(labels), 0.0
    guesses = torch.zeros(total, dtype=torch.int64)
    sure = torch.zeros(total)
    classes = 0
    for start in range(0, total, BATCH_SIZE):
        here = slice(start, start + BATCH_SIZE)
        logits = model(normalized(images[here]))
        loss = float(functional.cross_entropy(logits, labels[here], reduction="sum"))
        loss_sum += loss
        guesses[here] = logits.argmax(1)
        sure[here] = logits.softmax(1).amax(1)
        classes = logits.shape[1]
        on_step(min(1.0, (start + BATCH_SIZE) / total), loss / len(labels[here]))
    model.train(was_training)
    if not total:
        return Evaluation(0, {})
    metrics: dict[str, float] = {"accuracy": int((guesses == labels).sum()) / total}
    if math.isfinite(loss_sum):
        metrics["loss"] = loss_sum / total
    counts = (labels * classes + guesses).bincount(minlength=classes**2).view(classes, classes)
    used = max(len(class_names), int(torch.maximum(labels, guesses).max()) + 1)
    names = [*class_names, *(f"class {n}" for n in range(len(class_names), used))]
    confusion = tuple(tuple(row) for row in counts[:used, :used].tolist())
    return Evaluation(total, metrics, tuple(names), confusion, _samples(labels, guesses, sure))


def _samples(labels: Tensor, guesses: Tensor, sure: Tensor) -> Samples:
    most = min(MOST_SAMPLES, len(labels))
    picks = torch.arange(most) * len(labels) // most
    return Samples(
        tuple(picks.tolist()),
        tuple(labels[picks].tolist()),
        tuple(guesses[picks].tolist()),
        tuple(sure[picks].nan_to_num(0.0).tolist()),
    )
