"""What JPEG costs: central training on images as they are, and compressed once more.

`python -m benchmarks.jpeg_loss --data IMAGES` trains the CNN of NIID-Bench on all images, and on
copies that were compressed again (quality 75, chroma halved: as the usual JPEG copies of CIFAR-10)
with their blocks and chroma pairs elsewhere: the second time loses about what the first did, which
cannot be seen without the original bytes. Both are tested on test images of their kind. A row for
each run is appended to benchmarks/results/jpeg_loss.jsonl; what is there is not run again.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.entry import as_command
from benchmarks.machine import machine
from config.sections import TrainingPlan
from experiments.images import add_image_options, chosen_images
from experiments.json_lines import append_line, lines_in
from learning.batches import image_tensor, label_tensor
from learning.chunks import Images
from learning.cifar10 import Cifar10
from learning.data import ImageSet
from learning.evaluation import evaluate
from learning.runtime import prepare_torch
from learning.training import train

ROWS = Path(__file__).parent / "results" / "jpeg_loss.jsonl"
QUALITY = 75
# Odd, so that pairs of pixels with one chroma are others, too.
SHIFT = 3
PARTS = 10


def main(argv: Sequence[str]) -> int:
    """Run what is missing, and print the table."""
    options = _parser().parse_args(argv)
    prepare_torch(1)
    once = chosen_images(options)
    there = {(row["times"], row["seed"]) for row in _rows(options.passes, once.generated)}
    for times in (1, 2):
        if missing := [seed for seed in options.seeds if (times, seed) not in there]:
            images = once if times == 1 else _twice(once)
            for seed in missing:
                row = {"times": times, "seed": seed, "passes": options.passes}
                row |= {"generated": once.generated} | trained(images, options.passes, seed)
                append_line(ROWS, row | {"machine": machine()})
                print(times, seed, f"{row['final']:.2%}", file=sys.stderr, flush=True)
    print("| compressed | accuracy at the end, each seed | mean |\n|---|---|---|")
    found = _rows(options.passes, once.generated)
    for times, name in ((1, "as the images are"), (2, "once more")):
        ends = [row["final"] for row in found if row["times"] == times]
        if ends:
            told = ", ".join(f"{end:.1%}" for end in ends)
            print(f"| {name} | {told} | {mean(ends):.2%} |")
    return 0


def _twice(images: ImageSet) -> ImageSet:
    train_images, test_images = map(compressed, (images.train_images, images.test_images))
    return replace(images, train_images=train_images, test_images=test_images)


def compressed(images: Images) -> Images:
    """uint8[n, 3, h, w] through JPEG once more, with its blocks `SHIFT` pixels elsewhere."""
    made = np.empty_like(images)
    height, width = images.shape[2:]
    for index, image in enumerate(images):
        around = ((SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0))
        padded = np.pad(image.transpose(1, 2, 0), around, mode="edge")
        file = io.BytesIO()
        Image.fromarray(padded).save(file, "JPEG", quality=QUALITY)
        pixels = np.asarray(Image.open(file))[SHIFT : SHIFT + height, SHIFT : SHIFT + width]
        made[index] = pixels.transpose(2, 0, 1)
    return made


def trained(images: ImageSet, passes: int, seed: int) -> dict[str, Any]:
    """Train centrally; accuracy on the test images after each tenth, and of the last three."""
    plan = TrainingPlan(
        model="tutorial-cnn",
        epochs=passes / PARTS,
        batch_size=64,
        learning_rate=0.01,
        momentum=0.9,
        weight_decay=1e-5,
        seed=seed,
    )
    model = Cifar10().build_model(plan)
    inputs, labels = image_tensor(images.train_images), label_tensor(images.train_labels)
    tests = image_tensor(images.test_images), label_tensor(images.test_labels)
    curve: list[float] = []
    for part in range(PARTS):
        chance = seed * PARTS + part
        train(model, inputs, labels, plan, seed=chance, on_step=lambda done, loss: None)
        found = evaluate(model, *tests, on_step=lambda done, loss: None)
        curve.append(found.metrics["accuracy"])
    return {"final": mean(curve[-3:]), "curve": [round(accuracy, 4) for accuracy in curve]}


def _rows(passes: int, generated: bool) -> list[dict[str, Any]]:
    wanted = passes, generated
    return [row for _, row in lines_in(ROWS) if (row["passes"], row["generated"]) == wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--passes", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    add_image_options(parser)
    return parser


if __name__ == "__main__":
    as_command(main)
