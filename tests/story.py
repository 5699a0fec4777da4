"""The rows of a small federation, as its coordinator reports them, and a test set to go with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from learning.chunks import Chunk, write_chunk

CLASSES = ("cat", "dog", "owl")
TESTED = 12


def version(number: int, *devices: str, staleness: tuple[int, ...] | None = None) -> dict[str, Any]:
    return {
        "kind": "version",
        "time_s": 10.0 * number,
        "version": number,
        "updates": len(devices),
        "devices": list(devices),
        "staleness": list(staleness or [0] * len(devices)),
        "clipped": 0,
        "left_out": 0,
    }


def evaluation(number: int, accuracy: float) -> dict[str, Any]:
    """A test of twelve images, of which the cats and dogs are always told apart."""
    return {
        "kind": "evaluation",
        "time_s": 10.0 * number + 1,
        "version": number,
        "accuracy": accuracy,
        "loss": 2.0 - accuracy,
        "examples": TESTED,
        "classes": list(CLASSES),
        "recall": {"cat": 1.0, "dog": 1.0, "owl": 0.25},
        "confusion": [[4, 0, 0], [0, 4, 0], [3, 0, 1]],
        "samples": {
            "index": [0, 5, 11],
            "truth": [0, 1, 2],
            "guess": [0, 1, 0],
            "confidence": [0.9, 0.8, 0.4],
        },
    }


def update(device: str, number: int = 0, **metrics: float) -> dict[str, Any]:
    return {
        "kind": "update",
        "time_s": 1.0,
        "device": device,
        "sequence": number,
        "base_version": number,
        "staleness": 1,
        "examples": 10,
        "steps": 5,
        "train_s": 2.0,
        "bytes": 100,
        "norm": 0.5,
        "metrics": metrics,
    }


def quarantine(device: str, number: int, *, quarantined: bool = True) -> dict[str, Any]:
    return {
        "kind": "quarantine",
        "time_s": 1.0,
        "quarantined": quarantined,
        "device": device,
        "by": "rule",
        "reason": "wild",
        "version": number,
    }


def refusal(device: str, base_version: int) -> dict[str, Any]:
    return {
        "kind": "refusal",
        "time_s": 1.0,
        "device": device,
        "sequence": 1,
        "base_version": base_version,
        "reason": "stale",
        "detail": "",
    }


def first_part() -> list[dict[str, Any]]:
    """What is told until the coordinator ends: four tests, the last one much the worse."""
    return [
        evaluation(0, 0.3),
        update("one", held_out_accuracy=0.4),
        update("two", held_out_accuracy=0.2, train_loss=1.5),
        version(1, "one", "two", staleness=(0, 3)),
        evaluation(1, 0.5),
        version(2, "one"),
        evaluation(2, 0.6),
        quarantine("two", 2),
        version(3, "one"),
        evaluation(3, 0.4),
    ]


def second_part() -> list[dict[str, Any]]:
    """What is told after a restart."""
    return [version(4, "one"), evaluation(4, 0.65), refusal("two", 2**60)]


def a_test_set(path: Path) -> Path:
    """Twelve held-out images; all of the pixels of image n are n."""
    held_out = np.repeat(np.arange(TESTED, dtype=np.uint8), 3 * 32 * 32).reshape(-1, 3, 32, 32)
    labels = np.repeat(np.arange(3), TESTED // 3)
    write_chunk(path, Chunk(held_out[:0], labels[:0], held_out, labels, CLASSES, True))
    return path
