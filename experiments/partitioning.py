"""`flockwise lab partition`: cut a set of images into one chunk for each device, and a test set.

The same images, options and seed give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from config.failures import ExitCode, Failure
from config.options import UsageParser
from config.partition import Partition
from experiments.images import add_image_options, chosen_images
from experiments.numbers import whole
from experiments.partition_description import DevicePart, PartitionDescription, table
from experiments.partition_options import add_partition_options, chosen_partition
from experiments.partition_picture import picture_path, write_picture
from federation.files import replace_file
from learning.chunks import Chunk, write_chunk
from learning.data import ImageSet, evaluation_chunk
from learning.partition_chunks import device_chunks
from learning.partition_noise import noise_levels

DESCRIPTION = "partition.json"
TEST_SET = "test.npz"
MAX_DEVICES = 100_000
_DEVICE_FILE = re.compile(r"device-\d{3,}\.npz")


def main(argv: Sequence[str]) -> int:
    """Make the chunks and show who got what."""
    options = _parser().parse_args(argv)
    rule = chosen_partition(options)
    made = write_partition(
        chosen_images(options), options.output, rule, devices=options.devices, seed=options.seed
    )
    if options.picture is not None:
        write_picture(made, options.picture)
    print(_as_json(made) if options.json else table(made))
    return ExitCode.OK


def partition_images(
    images: ImageSet, output: Path, *, devices: int, dirichlet: float | None = None, seed: int = 0
) -> PartitionDescription:
    """Write an even partition, or one by Dirichlet(alpha), as `write_partition` does."""
    rule = Partition() if dirichlet is None else Partition(kind="dirichlet", alpha=dirichlet)
    return write_partition(images, output, rule, devices=devices, seed=seed)


def write_partition(
    images: ImageSet, output: Path, rule: Partition, *, devices: int, seed: int = 0
) -> PartitionDescription:
    """Write `device-000.npz` and so on, `test.npz` and, last, `partition.json`.

    Chunks that an earlier partition left in the directory are replaced or removed.

    Args:
        images: the whole set.
        output: the directory; it is made where needed.
        rule: who gets what.
        devices: number of chunks.
        seed: decides all chance.

    Raises:
        Failure: the images cannot be cut so, or the directory cannot be written.
    """
    chunks = device_chunks(images, devices, rule, seed=seed)
    _clear(output)
    parts = []
    for index, (chunk, noise) in enumerate(
        zip(chunks, noise_levels(devices, rule.noise), strict=True)
    ):
        file = f"device-{index:03d}.npz"
        write_chunk(output / file, chunk)
        parts.append(_part(file, chunk, float(noise)))
    write_chunk(output / TEST_SET, evaluation_chunk(images))
    made = PartitionDescription(
        source=images.source,
        generated=images.generated,
        seed=seed,
        cut=rule.in_words(),
        rule=rule.numbers(),
        class_names=images.class_names,
        devices=tuple(parts),
        test_file=TEST_SET,
        test_examples=len(images.test_labels),
    )
    replace_file(output / DESCRIPTION, _as_json(made).encode() + b"\n")
    return made


def _part(file: str, chunk: Chunk, noise: float) -> DevicePart:
    labels = np.concatenate([chunk.train_labels, chunk.held_out_labels])
    counts = np.bincount(labels, minlength=len(chunk.class_names))
    return DevicePart(
        file, len(chunk.train_labels), len(chunk.held_out_labels), tuple(counts.tolist()), noise
    )


def _as_json(made: PartitionDescription) -> str:
    return json.dumps(asdict(made), indent=2)


def _clear(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
        # First what describes them: chunks without it are an unfinished partition.
        (output / DESCRIPTION).unlink(missing_ok=True)
        for path in output.iterdir():
            if _DEVICE_FILE.fullmatch(path.name):
                path.unlink()
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"cannot write chunks to {output}: {error.strerror}"
        ) from None


_EPILOG = """\
Labels, amounts and looks may differ from device to device, as they do in the field:

  even in all                  --devices 5
  some labels more than others --dirichlet 0.5         (0.1 is harsh, 100 nearly even)
  two labels each              --kind shards --labels-per-device 2
  some have far more           --kind power_law --exponent 1.5
                               --kind quantity --alpha 0.5
  some see worse               --noise 0.1             (together with any of the above)

Everything is decided by --seed: the same command writes the same bytes. Each device's file holds
images to train on and, with the labels in proportion, images that it tests on. It is what an agent
takes: flockwise agent run --chunk DIR/device-000.npz. DIR/test.npz is what a coordinator takes:
flockwise coordinator run --test-set DIR/test.npz.

example: flockwise lab partition --data images --devices 100 --dirichlet 0.3 --output chunks
             --picture chunks.png
"""


def _parser() -> argparse.ArgumentParser:
    parser = UsageParser(
        prog="flockwise lab partition",
        description="Cut a set of images into one chunk for each device, and a test set.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="where the chunks go"
    )
    parser.add_argument(
        "--devices",
        type=whole(1, MAX_DEVICES),
        default=5,
        metavar="N",
        help="number of chunks (default: 5)",
    )
    parser.add_argument(
        "--picture",
        type=picture_path,
        metavar="FILE",
        help="draw who has what, labels by devices, to a .png or .svg",
    )
    parser.add_argument(
        "--json", action="store_true", help="print what partition.json says, and no table"
    )
    add_partition_options(parser)
    add_image_options(parser)
    return parser
