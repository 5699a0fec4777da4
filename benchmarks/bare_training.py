"""Training without Flockwise: what any program takes that trains this model on this chunk.

python -m benchmarks.bare_training CHUNK MODEL SECONDS [tested]

It imports torch, loads the chunk and trains for so long by the loop of `learning.training`, written
down once more, as that module knows plans and checkpoints. With `tested` it tests the model on the
held-out part first, as an agent does. It prints a line when it has begun to train, and one at the
end that says how many images that were in how many seconds.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from learning.batches import augmented, normalized
from learning.models import build_model
from learning.runtime import prepare_torch

BATCH = 16
TEST_BATCH = 128
RATE = 0.05
DECAY = 5e-4


def main(argv: list[str]) -> None:
    """Train until the time is over."""
    path, name, seconds, *tested = argv
    prepare_torch(1)
    with np.load(path) as chunk:
        images, labels = _tensors(chunk["train_images"], chunk["train_labels"])
        held_images, held_labels = _tensors(chunk["held_out_images"], chunk["held_out_labels"])
    model = build_model(name)
    if tested:
        model.eval()
        for start in range(0, len(held_labels), TEST_BATCH):
            with torch.inference_mode():
                part = slice(start, start + TEST_BATCH)
                logits = model(normalized(held_images[part]))
                float(functional.cross_entropy(logits, held_labels[part]))
    model.train()
    chance = torch.Generator().manual_seed(0)
    weights = list(model.parameters())
    began_s = time.monotonic()
    end_s = began_s + float(seconds)
    trained = 0
    print("training", flush=True)
    while time.monotonic() < end_s:
        order = torch.randperm(len(labels), generator=chance)
        for picks in torch.split(order, BATCH):
            logits = model(normalized(augmented(images, picks, chance)))
            loss = functional.cross_entropy(logits, labels[picks])
            loss.item()
            loss.backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for weight in weights:
                    assert weight.grad is not None
                    weight.add_(weight.grad.add_(weight, alpha=DECAY), alpha=-RATE)
                    weight.grad = None
            trained += len(picks)
            if time.monotonic() >= end_s:
                break
    print(trained, time.monotonic() - began_s)


def _tensors(images: np.ndarray, labels: np.ndarray) -> tuple[Tensor, Tensor]:
    rows = torch.from_numpy(images).permute(0, 2, 3, 1).contiguous()
    return rows, torch.from_numpy(labels.astype(np.int64))


if __name__ == "__main__":
    main(sys.argv[1:])
