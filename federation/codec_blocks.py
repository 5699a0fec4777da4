"""Codecs that round to a few levels: int8 and int4, with a scale for each block of elements.

A block's levels are the multiples of its scale, which is its largest absolute value over the number
of levels on a side (block-wise linear quantization: Dettmers et al. 2021, arXiv:2110.02861, section
2.1). All of it is done by ranges that fit the cache, so no temporary is of the size of the vector.

Rounding is to the nearest level; what is rounded away is the caller's to carry over. Stochastic
rounding (QSGD: Alistarh et al. 2017, arXiv:1610.02132) needs nobody who carries it over, and errs
twice as much in the square: docs/decisions/0016-which-codec-when.md has both measured.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from federation.codec import Bytes, Codec, Vector, ranges
from federation.sizes import INT4_BLOCK, INT8_BLOCK, CodecError, blocks_of

_TINY = np.finfo(np.float32).tiny
# Rounded up, the scale of the largest float32 would decode to infinity.
_LARGEST_SCALE = np.nextafter(np.finfo(np.float32).max / np.float32(127), np.float32(0))
_LARGEST_HALF_SCALE = np.array([0x7E120000], dtype=np.uint32).view(np.float32)[0]


def rounded(
    piece: Vector, block: int, most: int, *, half_scales: bool = False
) -> tuple[Vector, npt.NDArray[np.int8]]:
    """The scales of the blocks of a vector, and the levels of its elements, -most to most.

    Args:
        piece: Float32[n]; its last block may be shorter.
        most: 127, or 7 with half scales.
        half_scales: make the scales bf16 numbers, by rounding up.

    Raises:
        CodecError: it holds numbers that are not finite.
    """
    blocks = blocks_of(piece.size, block)
    if piece.size % block:
        padded = np.zeros(blocks * block, dtype=np.float32)
        padded[: piece.size] = piece
    else:
        padded = np.ascontiguousarray(piece)
    rows = padded.reshape(blocks, block)
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    if not np.isfinite(largest).all():
        raise CodecError("a codec with scales takes finite numbers")
    scales: Vector = largest / np.float32(most)
    if half_scales:
        bits = scales.view(np.uint32)
        bits += np.uint32(0xFFFF)
        bits &= np.uint32(0xFFFF0000)
    # A block of denormals would scale to zero or overflow on division: it is sent as zeros.
    scales[scales < _TINY] = 0
    np.minimum(scales, _LARGEST_HALF_SCALE if half_scales else _LARGEST_SCALE, out=scales)
    divisors = np.where(scales > 0, scales, np.float32(np.inf))
    steps = rows / divisors[:, None]
    np.rint(steps, out=steps)
    np.clip(steps, -most, most, out=steps)
    return scales, steps.astype(np.int8).reshape(-1)[: piece.size]


def scaled(levels: Vector, scales: Vector, block: int) -> Vector:
    """The elements that levels stand for, in their place, Float32[n]."""
    whole = levels.size // block
    # Foreign scales may be of any value; whether the vector is finite is for the caller to check.
    with np.errstate(over="ignore", invalid="ignore"):
        levels[: whole * block].reshape(whole, block)[...] *= scales[:whole, None]
        if whole * block < levels.size:
            levels[whole * block :] *= scales[whole]
    return levels


def _int8_encode(vector: Vector) -> bytes:
    """A float32 scale for each block of 256, max|x| / 127; then int8[d].

    The error of an element is at most half the scale of its block: 0.4 % of the largest in it.
    """
    blocks = blocks_of(vector.size, INT8_BLOCK)
    payload = bytearray(4 * blocks + vector.size)
    scales = np.frombuffer(payload, dtype="<f4", count=blocks)
    levels = np.frombuffer(payload, dtype=np.int8, offset=4 * blocks)
    for start, stop in ranges(0, vector.size):
        told, levels[start:stop] = rounded(vector[start:stop], INT8_BLOCK, 127)
        first = start // INT8_BLOCK
        scales[first : first + told.size] = told
    return bytes(payload)


def _int8_decode(payload: Bytes, d: int, start: int, stop: int) -> Vector:
    scales = np.frombuffer(payload, dtype="<f4", count=blocks_of(d, INT8_BLOCK))
    levels = np.frombuffer(payload, dtype=np.int8, count=d, offset=scales.nbytes)
    vector = np.empty(stop - start, dtype=np.float32)
    for at, end in ranges(start, stop):
        piece = vector[at - start : end - start]
        piece[:] = levels[at:end]
        first = at // INT8_BLOCK
        scaled(piece, scales[first : first + blocks_of(end - at, INT8_BLOCK)], INT8_BLOCK)
    return vector


def _int4_encode(vector: Vector) -> bytes:
    """A bf16 scale for each block of 128, max|x| / 7 rounded up; then two levels to a byte.

    The error of an element is at most half the scale of its block: 7.2 % of the largest in it. The
    element of the lower index is in the lower half; levels are of two's complement.
    """
    blocks = blocks_of(vector.size, INT4_BLOCK)
    payload = bytearray(2 * blocks + blocks_of(vector.size, 2))
    scales = np.frombuffer(payload, dtype="<u2", count=blocks)
    pairs = np.frombuffer(payload, dtype=np.uint8, offset=2 * blocks)
    for start, stop in ranges(0, vector.size):
        told, levels = rounded(vector[start:stop], INT4_BLOCK, 7, half_scales=True)
        first = start // INT4_BLOCK
        scales[first : first + told.size] = told.view(np.uint32) >> np.uint32(16)
        low = levels.view(np.uint8) & np.uint8(15)
        if low.size % 2:
            low = np.append(low, np.uint8(0))
        pairs[start // 2 : blocks_of(stop, 2)] = low[::2] | (low[1::2] << np.uint8(4))
    return bytes(payload)


def _two_levels() -> npt.NDArray[np.uint64]:
    """For each byte the two levels in it, as the bits of two float32 that lie side by side."""
    byte = np.arange(256)
    halves = np.stack([byte & 15, byte >> 4], axis=1)
    levels = np.where(halves > 7, halves - 16, halves).astype(np.float32)
    return levels.view(np.uint64)[:, 0]


_LEVELS = _two_levels()


def _int4_decode(payload: Bytes, d: int, start: int, stop: int) -> Vector:
    blocks = blocks_of(d, INT4_BLOCK)
    halves = np.frombuffer(payload, dtype="<u2", count=blocks)
    pairs = np.frombuffer(payload, dtype=np.uint8, offset=2 * blocks)
    vector = np.empty(2 * blocks_of(stop - start, 2), dtype=np.float32)
    for at, end in ranges(start, stop):
        piece = vector[at - start : 2 * blocks_of(end - start, 2)]
        np.take(_LEVELS, pairs[at // 2 : blocks_of(end, 2)], out=piece.view(np.uint64), mode="clip")
        first = at // INT4_BLOCK
        told = halves[first : first + blocks_of(end - at, INT4_BLOCK)].astype(np.uint32)
        told <<= np.uint32(16)
        scaled(piece[: end - at], told.view(np.float32), INT4_BLOCK)
    return vector[: stop - start]


INT8 = Codec(_int8_encode, _int8_decode, lossy=True)
INT4 = Codec(_int4_encode, _int4_decode, lossy=True)
