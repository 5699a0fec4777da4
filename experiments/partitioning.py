"""`flockwise lab partition`: cut a set of images into one chunk for each device, and a test set.

The same images, options and seed give the same files, byte for byte.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from config.failures import ExitCode, Failure
from config.options import UsageParser
from experiments.images import add_image_options, chosen_images
from experiments.numbers import fraction_below_one, positive, whole
from federation.files import replace_file
from learning.chunks import write_chunk
from learning.data import ImageSet, device_chunk, evaluation_chunk
from learning.partition import by_dirichlet, counts_by_label, iid, split_held_out

DESCRIPTION = "partition.json"
TEST_SET = "test.npz"
MAX_DEVICES = 100_000
_DEVICE_FILE = re.compile(r"device-\d{3,}\.npz")


@dataclass(frozen=True, slots=True)
class DevicePart:
    """One device's chunk: its file and how many examples it holds; `labels` counts both parts."""

    file: str
    train: int
    held_out: int
    labels: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """What is in a directory of chunks, as `partition.json` tells it."""

    source: str
    generated: bool
    seed: int
    dirichlet: float | None
    held_out: float
    class_names: tuple[str, ...]
    devices: tuple[DevicePart, ...]
    test_file: str
    test_examples: int


def main(argv: Sequence[str]) -> int:
    """Make the chunks and show who got what."""
    options = _parser().parse_args(argv)
    images = chosen_images(options)
    made = partition_images(
        images,
        options.output,
        devices=options.devices,
        dirichlet=options.dirichlet,
        held_out=options.held_out,
        seed=options.seed,
    )
    print(table(made))
    return ExitCode.OK


def partition_images(
    images: ImageSet,
    output: Path,
    *,
    devices: int,
    dirichlet: float | None = None,
    held_out: float = 0.1,
    seed: int = 0,
) -> Partition:
    """Write `device-000.npz` and so on, `test.npz` and, last, `partition.json`.

    Chunks that an earlier partition left in the directory are replaced or removed.

    Args:
        images: the whole set.
        output: the directory; it is made where needed.
        devices: number of chunks.
        dirichlet: skew by label, None for an even cut.
        held_out: share of each device's examples that it tests on, 0 to below 1.
        seed: decides all chance.

    Raises:
        Failure: more devices than examples, or the directory cannot be written.
    """
    total = len(images.train_labels)
    if devices > total:
        raise Failure(
            ExitCode.USAGE, f"{devices} devices cannot share {total} training images; give fewer"
        )
    labels = images.train_labels
    if dirichlet is None:
        parts = iid(labels, devices, seed=seed)
    else:
        parts = by_dirichlet(labels, devices, dirichlet, seed=seed)
    counts = counts_by_label(labels, parts, len(images.class_names))

    _clear(output)
    described = []
    for index, part in enumerate(parts):
        train, held = split_held_out(labels, part, held_out, seed=seed)
        file = f"device-{index:03d}.npz"
        write_chunk(output / file, device_chunk(images, train, held))
        described.append(DevicePart(file, len(train), len(held), tuple(counts[index].tolist())))
    write_chunk(output / TEST_SET, evaluation_chunk(images))
    made = Partition(
        source=images.source,
        generated=images.generated,
        seed=seed,
        dirichlet=dirichlet,
        held_out=held_out,
        class_names=images.class_names,
        devices=tuple(described),
        test_file=TEST_SET,
        test_examples=len(images.test_labels),
    )
    replace_file(output / DESCRIPTION, json.dumps(asdict(made), indent=2).encode() + b"\n")
    return made


def table(made: Partition, most: int = 20) -> str:
    """Labels by devices, for people; of many devices only the first ones."""
    heads = [name[:6] for name in made.class_names]
    first = max([len(Path(part.file).stem) for part in made.devices] + [6])
    lines = [" ".join([" " * first, *(f"{head:>6}" for head in heads), " train  held-out"])]
    for part in made.devices[:most]:
        cells = (f"{count:6d}" for count in part.labels)
        name = Path(part.file).stem
        lines.append(" ".join([f"{name:<{first}}", *cells, f"{part.train:6d} {part.held_out:9d}"]))
    if len(made.devices) > most:
        lines.append(f"... and {len(made.devices) - most} more devices")
    skew = "evenly" if made.dirichlet is None else f"by Dirichlet({made.dirichlet:g})"
    note = " GENERATED, NOT REAL," if made.generated else ""
    lines.append(f"{made.source},{note} cut {skew}; {made.test_examples} test images")
    return "\n".join(lines)


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


def _parser() -> argparse.ArgumentParser:
    parser = UsageParser(
        prog="flockwise lab partition",
        description="Cut a set of images into one chunk for each device, and a test set.",
        epilog="example: flockwise lab partition --data images --devices 5 --dirichlet 0.5"
        " --output chunks",
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
        "--dirichlet",
        type=positive,
        metavar="ALPHA",
        help="skew the labels: 100 is nearly even, 0.1 leaves a device with two or three labels"
        " (default: an even cut)",
    )
    parser.add_argument(
        "--held-out",
        type=fraction_below_one,
        default=0.1,
        metavar="SHARE",
        help="share of its examples that a device tests on (default: 0.1)",
    )
    add_image_options(parser)
    return parser
