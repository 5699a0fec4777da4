"""A picture of a partition in a file: who has what, labels by devices.

The same partition gives the same bytes: no clock, no random ids, nobody's own matplotlibrc.
"""

from __future__ import annotations

import argparse
import io
import warnings
from pathlib import Path

from config.failures import ExitCode, Failure
from experiments.partition_description import PartitionDescription
from federation.files import replace_file

FORMATS = (".png", ".svg")

_DPI = 144


def picture_path(text: str) -> Path:
    """A path for a picture: a type for argparse."""
    path = Path(text)
    if path.suffix.lower() not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text!r} does not end in {' or '.join(FORMATS)}")
    return path


def write_picture(made: PartitionDescription, path: Path) -> None:
    """Draw a partition to a file, PNG or SVG by its ending.

    Raises:
        Failure: matplotlib is not installed, or the file cannot be written.
    """
    drawn = picture(made, path.suffix.lower().removeprefix("."))
    try:
        replace_file(path, drawn)
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror or error}"
        ) from None


def picture(made: PartitionDescription, kind: str) -> bytes:
    """The bytes of that picture, `png` or `svg`.

    Raises:
        Failure: matplotlib is not installed.
    """
    try:
        # Only a picture needs matplotlib.
        from matplotlib import style  # noqa: PLC0415

        from experiments.partition_drawing import STYLE, drawn  # noqa: PLC0415
    except ImportError:
        raise Failure(
            ExitCode.FAILURE,
            "pictures are drawn by matplotlib, which is not installed;"
            " install flockwise[lab], or go without --picture",
        ) from None
    stream = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with (
        style.context(["default", STYLE, {"svg.hashsalt": "flockwise"}]),
        warnings.catch_warnings(),
    ):
        # A name in a script that the font lacks is drawn as boxes; that needs no words.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        drawn(made).savefig(stream, format=kind, dpi=_DPI, metadata=metadata)
    return stream.getvalue()
