"""Codecs: a flat float32 vector of size d to bytes and back, each a pair of pure functions.

Every codec is blind to what came before. What it rounds away is left to the caller, who carries
it over to the next update as a residual (error feedback: Seide et al. 2014; Karimireddy et al.
2019, arXiv:1901.09847). All bytes are little-endian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from federation.sizes import INT8_BLOCK, CodecError, encoded_size, int8_blocks

Vector: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = bytes | bytearray | memoryview

_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(127), np.float32(0))


@dataclass(frozen=True, slots=True)
class Codec:
    """How a vector of size d becomes bytes; `decode` trusts that the size was checked."""

    encode: Callable[[Vector], bytes]
    decode: Callable[[Bytes, int], Vector]
    lossy: bool


def encode(codec: str, vector: Vector) -> bytes:
    """The vector as bytes.

    Args:
        codec: a name in `CODECS`.
        vector: Float32[d], finite.

    Raises:
        CodecError: unknown codec, wrong dtype or shape.
    """
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise CodecError(f"a codec takes float32[d], not {vector.dtype}{list(vector.shape)}")
    return _codec(codec).encode(vector)


def decode(codec: str, payload: Bytes, d: int) -> Vector:
    """The vector that `payload` stands for, Float32[d]; it may share memory with the payload.

    Raises:
        CodecError: unknown codec, or a payload whose size is not that of d elements.
    """
    expected = encoded_size(codec, d)
    size = memoryview(payload).nbytes
    if size != expected:
        raise CodecError(f"{codec}: {d} elements are {expected} bytes, not {size}")
    return _codec(codec).decode(payload, d)


def is_lossy(codec: str) -> bool:
    """Whether decoding gives something else than what was encoded."""
    return _codec(codec).lossy


def _codec(name: str) -> Codec:
    try:
        return CODECS[name]
    except KeyError:
        known = ", ".join(CODECS)
        raise CodecError(f"unknown codec {name!r}; known are: {known}") from None


def _float32_encode(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def _float32_decode(payload: Bytes, d: int) -> Vector:
    return np.frombuffer(payload, dtype="<f4", count=d).astype(np.float32, copy=False)


def _int8_encode(vector: Vector) -> bytes:
    """Symmetric linear quantization by blocks of 256: a float32 scale each, then int8[d].

    The error of an element is at most half its block's scale, which is max|x| / 127
    (Dettmers et al. 2021, arXiv:2110.02861, with a linear map and nearest rounding).
    """
    blocks = int8_blocks(vector.size)
    padded = np.zeros(blocks * INT8_BLOCK, dtype=np.float32)
    padded[: vector.size] = vector
    rows = padded.reshape(blocks, INT8_BLOCK)
    # Rounded up, the scale of the largest float32 would decode to infinity.
    scales = np.minimum(np.abs(rows).max(axis=1) / np.float32(127), _LARGEST_SCALE)
    # A block of denormals would scale to zero or overflow on division: it is sent as zeros.
    scales[scales < np.finfo(np.float32).tiny] = 0
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    levels = np.clip(np.rint(rows / divisors[:, None]), -127, 127).astype(np.int8)
    packed: bytes = scales.astype("<f4", copy=False).tobytes()
    return packed + levels.reshape(-1)[: vector.size].tobytes()


def _int8_decode(payload: Bytes, d: int) -> Vector:
    blocks = int8_blocks(d)
    scales = np.frombuffer(payload, dtype="<f4", count=blocks)
    levels = np.frombuffer(payload, dtype=np.int8, count=d, offset=4 * blocks)
    vector = levels.astype(np.float32)
    whole = d // INT8_BLOCK
    rows = vector[: whole * INT8_BLOCK].reshape(whole, INT8_BLOCK)
    # Foreign scales may be of any value; whether the vector is finite is for the caller to check.
    with np.errstate(over="ignore", invalid="ignore"):
        rows *= scales[:whole, None]
        if whole < blocks:
            vector[whole * INT8_BLOCK :] *= scales[whole]
    return vector


CODECS: dict[str, Codec] = {
    "float32": Codec(_float32_encode, _float32_decode, lossy=False),
    "int8": Codec(_int8_encode, _int8_decode, lossy=True),
}
