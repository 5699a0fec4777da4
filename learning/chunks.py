"""A chunk is what one device knows: labelled images to train on and a held-out part, in one file.

The file is an uncompressed `.npz`, never pickle, and always the same bytes for the same content.
Reading it trusts nothing: which arrays there are, their types, shapes and sizes are read from
their headers and bounded before anything large is allocated.
"""

from __future__ import annotations

import re
import struct
import zipfile
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
from numpy.lib import format as npy

from config.failures import ExitCode, Failure
from federation.files import write_file

Images: TypeAlias = npt.NDArray[np.uint8]
Labels: TypeAlias = npt.NDArray[np.int64]

IMAGE_SHAPE = (3, 32, 32)
MAX_IMAGES = 1_000_000
MAX_CLASSES = 1000
MAX_NAME = 100
_PARTS = ("train", "held_out")
_LABEL_TYPES = ("|u1", "<i8")
_PIECE = 1 << 20
# What zipfile makes of damaged bytes; a name that is not UTF-8 is a ValueError.
_BROKEN_ZIP = (
    zipfile.BadZipFile,
    ValueError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    struct.error,
)
_MAGIC = b"\x93NUMPY\x01\x00"
_HEADER = re.compile(
    rb"\{'descr': '([<|][a-zA-Z]\d{1,3})', 'fortran_order': (True|False),"
    rb" 'shape': \(((?:\d{1,9}, ?){0,8}(?:\d{1,9})?)\), \} *\n"
)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Images uint8[n, 3, 32, 32] with labels int64[n], 0 to len(class_names) - 1."""

    train_images: Images
    train_labels: Labels
    held_out_images: Images
    held_out_labels: Labels
    class_names: tuple[str, ...]
    generated: bool


class BadChunk(Failure):
    """A file that is no chunk."""

    def __init__(self, path: Path, fault: str) -> None:
        super().__init__(ExitCode.NO_INPUT, f"{path} is not a chunk of images: {fault}")


def write_chunk(path: Path, chunk: Chunk) -> None:
    """Write a chunk; the file appears whole or not at all.

    Raises:
        Failure: the file cannot be written.
    """
    arrays = {
        "train_images": chunk.train_images,
        "train_labels": chunk.train_labels.astype(np.uint8 if _fits_byte(chunk) else "<i8"),
        "held_out_images": chunk.held_out_images,
        "held_out_labels": chunk.held_out_labels.astype(np.uint8 if _fits_byte(chunk) else "<i8"),
        "class_names": np.array(chunk.class_names, dtype=np.str_),
        "generated": np.array(chunk.generated),
    }
    try:
        write_file(path, lambda stream: _write_arrays(stream, arrays))
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"cannot write {path}: {error.strerror or error}"
        ) from None


def read_chunk(path: Path) -> Chunk:
    """Read and check a chunk.

    Raises:
        BadChunk: the file is not there or is not a chunk; the message says what is wrong.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(path, archive)
    except FileNotFoundError:
        raise Failure(
            ExitCode.NO_INPUT, f"no chunk at {path} (`flockwise lab partition` makes chunks)"
        ) from None
    except _BROKEN_ZIP as error:
        raise BadChunk(path, " ".join(str(error).split())[:200] or "it ends early") from None
    except OSError as error:
        raise Failure(ExitCode.NO_INPUT, f"cannot read {path}: {error.strerror or error}") from None


def _fits_byte(chunk: Chunk) -> bool:
    return len(chunk.class_names) <= 256


def _write_arrays(stream: BinaryIO, arrays: dict[str, npt.NDArray[Any]]) -> None:
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            # The earliest time that a zip file can hold: no clock in the bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            with archive.open(entry, "w", force_zip64=True) as part:
                npy.write_array(part, np.asarray(array, order="C"), (1, 0), allow_pickle=False)


def _read(path: Path, archive: zipfile.ZipFile) -> Chunk:
    expected = {f"{part}_{kind}.npy" for part in _PARTS for kind in ("images", "labels")}
    expected |= {"class_names.npy", "generated.npy"}
    names = [entry.filename for entry in archive.infolist()]
    if sorted(names) != sorted(expected):
        raise BadChunk(path, f"it holds {_short(names)}, not {_short(expected)}")

    generated = _array(path, archive, "generated", ("|b1",), ())
    class_names = _class_names(path, archive)
    arrays: dict[str, npt.NDArray[Any]] = {}
    for part in _PARTS:
        labels = _array(path, archive, f"{part}_labels", _LABEL_TYPES, (None,))
        if labels.size and not 0 <= labels.min() <= labels.max() < len(class_names):
            raise BadChunk(path, f"{part}_labels go beyond its {len(class_names)} classes")
        arrays[f"{part}_labels"] = labels.astype(np.int64)
        arrays[f"{part}_images"] = _array(
            path, archive, f"{part}_images", ("|u1",), (labels.size, *IMAGE_SHAPE)
        )
    if not arrays["train_labels"].size + arrays["held_out_labels"].size:
        raise BadChunk(path, "it holds no images")
    return Chunk(class_names=class_names, generated=bool(generated), **arrays)


def _class_names(path: Path, archive: zipfile.ZipFile) -> tuple[str, ...]:
    types = tuple(f"<U{length}" for length in range(1, MAX_NAME + 1))
    names = _array(path, archive, "class_names", types, (None,), limit=MAX_CLASSES)
    try:
        class_names = tuple(str(name) for name in names)
    except (UnicodeError, ValueError):
        raise BadChunk(path, "class_names are not text") from None
    if not class_names or len(set(class_names)) != len(class_names):
        raise BadChunk(path, "class_names must be given, each once")
    return class_names


def _array(
    path: Path,
    archive: zipfile.ZipFile,
    name: str,
    types: tuple[str, ...],
    shape: tuple[int | None, ...],
    limit: int = MAX_IMAGES,
) -> npt.NDArray[Any]:
    """One array, of one of the types and of the shape (None: any extent up to the limit)."""
    entry = archive.getinfo(f"{name}.npy")
    if entry.compress_type != zipfile.ZIP_STORED or entry.flag_bits & 1:
        raise BadChunk(path, f"{name} is compressed or encrypted")
    with archive.open(entry) as stream:
        found_type, found_shape, header_bytes = _header(path, name, stream)
        if found_type not in types:
            raise BadChunk(path, f"{name} is of type {found_type}, not {_short(types)}")
        if len(found_shape) != len(shape) or any(
            found != wanted and (wanted is not None or not 0 <= found <= limit)
            for found, wanted in zip(found_shape, shape, strict=True)
        ):
            wanted_shape = [f"0 to {limit}" if extent is None else extent for extent in shape]
            raise BadChunk(path, f"{name} has the shape {list(found_shape)}, not {wanted_shape}")
        dtype = np.dtype(found_type)
        size = prod(found_shape) * dtype.itemsize
        if entry.file_size != header_bytes + size or entry.compress_size != entry.file_size:
            raise BadChunk(path, f"{name} does not have the size that its header says")
        array = np.empty(found_shape, dtype)
        _fill(path, name, stream, array)
        return array


def _header(path: Path, name: str, stream: Any) -> tuple[str, tuple[int, ...], int]:
    """Type, shape and bytes of the header of a `.npy` file, as version 1.0 of numpy writes it.

    Numpy's own reader evaluates the header as Python text; nothing foreign is evaluated here.
    """
    start = stream.read(10)
    text = stream.read(int.from_bytes(start[8:], "little")) if start[:8] == _MAGIC else b""
    match = _HEADER.fullmatch(text)
    if match is None:
        raise BadChunk(path, f"{name} has no header of numpy, or one of an array of objects")
    found_type, fortran_order, extents = (group.decode() for group in match.groups())
    if fortran_order == "True":
        raise BadChunk(path, f"{name} is in Fortran order")
    shape = tuple(int(extent) for extent in extents.split(",") if extent.strip())
    return found_type, shape, len(start) + len(text)


def _fill(path: Path, name: str, stream: Any, array: npt.NDArray[Any]) -> None:
    target = array.reshape(-1).view(np.uint8).data
    start = 0
    while start < len(target):
        count = stream.readinto(target[start : start + _PIECE])
        if not count:
            raise BadChunk(path, f"{name} ends early")
        start += count
    if stream.read(1):
        raise BadChunk(path, f"{name} is longer than its header says")


def _short(names: Any) -> str:
    text = ", ".join(str(name).removesuffix(".npy") for name in sorted(names)) or "nothing"
    return text if len(text) <= 160 else text[:157] + "..."
