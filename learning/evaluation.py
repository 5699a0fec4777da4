"""Testing a model on images that it was not trained on."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from learning.batches import normalized
from learning.outcomes import Evaluation, OnStep

# Enough for speed; a device need not find memory for the activations of more.
BATCH_SIZE = 32


@torch.inference_mode()
def evaluate(model: nn.Module, images: Tensor, labels: Tensor, *, on_step: OnStep) -> Evaluation:
    """Mean cross-entropy and share of right answers; a loss that is not finite is left out.

    Args:
        model: takes Float32[b, 3, h, w], gives logits.
        images: uint8[n, h, w, 3]; none of them gives no figures.
        labels: int64[n].
        on_step: told after each batch: the share that is done and the loss of the batch.
    """
    was_training = model.training
    model.eval()
    total, loss_sum, hits = len(labels), 0.0, 0
    for start in range(0, total, BATCH_SIZE):
        targets = labels[start : start + BATCH_SIZE]
        logits = model(normalized(images[start : start + BATCH_SIZE]))
        loss = float(functional.cross_entropy(logits, targets, reduction="sum"))
        loss_sum += loss
        hits += int((logits.argmax(1) == targets).sum())
        on_step(min(1.0, (start + BATCH_SIZE) / total), loss / len(targets))
    model.train(was_training)
    metrics: dict[str, float] = {}
    if total:
        metrics["accuracy"] = hits / total
        if math.isfinite(loss_sum):
            metrics["loss"] = loss_sum / total
    return Evaluation(total, metrics)
