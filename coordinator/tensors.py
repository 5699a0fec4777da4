"""Tensors written as safetensors, piece by piece, so that a checkpoint costs no copy of itself.

The format (https://github.com/huggingface/safetensors): the size of a header in 8 bytes; the
header, JSON that tells dtype, shape and place of each tensor; then their bytes, little-endian. The
library reads it, and its own writer would hold what it writes three times.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from federation.files import write_file

_ALIGNED = 8


def write_tensors(path: Path, tensors: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Make these float32 tensors the content of `path`, durably.

    Raises:
        OSError: the directory is missing, full or not writable.
    """

    def write(stream: BinaryIO) -> None:
        for piece in _pieces(tensors):
            stream.write(piece)

    write_file(path, write)


def _pieces(tensors: Mapping[str, npt.NDArray[np.float32]]) -> Iterator[bytes | memoryview]:
    places: dict[str, object] = {}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.nbytes
        places[name] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (start, end)}
    header = json.dumps(places, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNED)
    yield len(header).to_bytes(8, "little") + header
    for tensor in tensors.values():
        if tensor.size:
            little = np.ascontiguousarray(tensor, dtype="<f4")
            yield little.reshape(-1).view(np.uint8).data
