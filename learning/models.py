"""Convolutional networks for images of 32 x 32, by name.

None of them keeps running statistics: averages of models trained apart would spoil them. What
normalizes here is GroupNorm (Wu and He 2018, arXiv:1803.08494).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn

from config.failures import ExitCode, Failure


def build_model(name: str, *, classes: int = 10, seed: int = 0) -> nn.Module:
    """A freshly initialised model: Float32[b, 3, 32, 32] to logits Float32[b, classes].

    The same name, classes and seed give the same weights; torch's own random state is untouched.

    Raises:
        Failure: no model has this name.
    """
    try:
        make = MODELS[name]
    except KeyError:
        known = ", ".join(MODELS)
        raise Failure(ExitCode.CONFIG, f"unknown model {name!r}; known are: {known}") from None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make(classes)
    # Measured on a CPU: convolutions and pooling are 1.3 to 6 times faster in this layout.
    return model.to(memory_format=torch.channels_last)


def tutorial_cnn(classes: int) -> nn.Module:
    """The CNN of the PyTorch tutorial and of NIID-Bench: 62,006 parameters for ten classes."""
    return nn.Sequential(
        # Pooling before ReLU gives the same numbers as after it, with a quarter of the work.
        nn.Conv2d(3, 6, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Conv2d(6, 16, 5),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(16 * 5 * 5, 120),
        nn.ReLU(inplace=True),
        nn.Linear(120, 84),
        nn.ReLU(inplace=True),
        nn.Linear(84, classes),
    )


def fast_cnn(classes: int) -> nn.Module:
    """The better CNN: 156,170 parameters, chosen by accuracy per CPU-second.

    How it was chosen: docs/decisions/0003-the-built-in-cnn.md.
    """
    return nn.Sequential(
        # No norm here: the images come normalized, and this is the widest tensor.
        nn.Conv2d(3, 16, 3, padding=1),
        nn.MaxPool2d(2),
        nn.ReLU(inplace=True),
        *_block(16, 32),
        *_block(32, 64),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 128),
        nn.ReLU(inplace=True),
        nn.Linear(128, classes),
    )


def _block(inputs: int, outputs: int) -> tuple[nn.Module, ...]:
    # Pooling comes first: what follows it has a quarter of the work.
    return (
        nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
        nn.MaxPool2d(2),
        nn.GroupNorm(8, outputs),
        nn.ReLU(inplace=True),
    )


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "fast-cnn": fast_cnn,
    "tutorial-cnn": tutorial_cnn,
}
