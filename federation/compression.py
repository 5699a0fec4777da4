"""Codecs by name: a flat float32 vector of size d to bytes and back, by pure functions.

Every codec is blind to what came before. What it rounds away is left to the caller, who carries
it over to the next update as a residual (error feedback: Seide et al. 2014; Karimireddy et al.
2019, arXiv:1901.09847). All bytes are little-endian. Which codec when, with figures:
docs/decisions/0016-which-codec-when.md.
"""

from __future__ import annotations

import zlib

import numpy as np

from federation.codec import Bytes, Codec, Vector
from federation.codec_blocks import INT4, INT8
from federation.codec_floats import BF16, FLOAT32
from federation.codec_topk import TOPK
from federation.sizes import CODECS, RANGE, CodecError, encoded_size, plain, size_bounds

__all__ = [
    "CODECS",
    "RANGE",
    "Bytes",
    "CodecError",
    "Vector",
    "decode",
    "decode_range",
    "encode",
    "is_lossy",
    "packed",
    "plain",
    "unpacked",
]

_PLAIN: dict[str, Codec] = {
    "float32": FLOAT32,
    "bf16": BF16,
    "int8": INT8,
    "int4": INT4,
    "topk": TOPK,
}


def encode(codec: str, vector: Vector) -> bytes:
    """The vector as bytes.

    Args:
        codec: a name in `CODECS`.
        vector: Float32[d]; finite, but for float32.

    Raises:
        CodecError: unknown codec, wrong dtype or shape, or not finite.
    """
    if vector.dtype != np.float32 or vector.ndim != 1:
        raise CodecError(f"a codec takes float32[d], not {vector.dtype}{list(vector.shape)}")
    return packed(codec, _codec(codec).encode(vector))


def decode(codec: str, payload: Bytes, d: int) -> Vector:
    """The vector that `payload` stands for, Float32[d]; it may share memory with the payload.

    Raises:
        CodecError: unknown codec, or a payload that is none of d elements.
    """
    return decode_range(plain(codec), unpacked(codec, payload, d), d, 0, d)


def decode_range(codec: str, payload: Bytes, d: int, start: int, stop: int) -> Vector:
    """Elements start..stop of what `payload` stands for, Float32[stop - start].

    They are those of `decode`, bit for bit, and may share memory with the payload.

    Args:
        codec: a plain one.
        start: a multiple of `RANGE`.
        stop: start <= stop <= d.

    Raises:
        CodecError: unknown codec, or a payload that is none of d elements, as far as this range
            tells.
        ValueError: no such range.
    """
    size, expected = memoryview(payload).nbytes, encoded_size(codec, d)
    if size != expected:
        raise CodecError(f"{codec}: {d} elements are {expected} bytes, not {size}")
    if start % RANGE or not 0 <= start <= stop <= d:
        raise ValueError(f"no range of {d} elements by {RANGE}: {start} to {stop}")
    return _codec(codec).decode(payload, d, start, stop)


def packed(codec: str, payload: bytes) -> bytes:
    """The payload of a plain codec with what the codec wraps around it: entropy coding, or nothing.

    Levels near zero are far more frequent than others, so they take fewer bits (Huffman, as in
    QSGD's Elias coding: arXiv:1610.02132, section 3.2). No more is searched for than runs of one
    byte: nothing else repeats in what was learned.
    """
    if codec == plain(codec):
        return payload
    press = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, 8, zlib.Z_RLE)
    return press.compress(payload) + press.flush()


def unpacked(codec: str, payload: Bytes, d: int) -> Bytes:
    """The payload of the plain codec; never more than its size is allocated.

    Raises:
        CodecError: unknown codec, or not exactly what d elements take in the plain codec.
    """
    size, (least, most) = memoryview(payload).nbytes, size_bounds(codec, d)
    if not least <= size <= most:
        expected = f"{most}" if least == most else f"at most {most}"
        raise CodecError(f"{codec}: {d} elements are {expected} bytes, not {size}")
    if codec == plain(codec):
        return payload
    whole = encoded_size(plain(codec), d)
    press = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = press.decompress(payload, whole)
        beyond = press.decompress(press.unconsumed_tail, 1)
    except zlib.error as error:
        raise CodecError(f"{codec}: {error}") from None
    if len(found) != whole or beyond or not press.eof or press.unused_data:
        raise CodecError(f"{codec}: it does not hold the {whole} bytes of {d} elements")
    return found


def is_lossy(codec: str) -> bool:
    """Whether decoding gives something else than what was encoded."""
    return _codec(codec).lossy


def _codec(name: str) -> Codec:
    if name not in CODECS:
        raise CodecError(f"unknown codec {name!r}; known are: {', '.join(CODECS)}")
    return _PLAIN[plain(name)]
