"""Codecs that keep floating point: float32 as it is, and bf16, its upper half."""

from __future__ import annotations

import numpy as np

from federation.codec import Bytes, Codec, Vector, ranges
from federation.sizes import CodecError

_LARGEST_BF16 = np.uint32(0x7F7F0000)
_SIGN = np.uint32(0x80000000)


def _float32_encode(vector: Vector) -> bytes:
    return vector.astype("<f4", copy=False).tobytes()


def _float32_decode(payload: Bytes, d: int, start: int, stop: int) -> Vector:
    numbers = np.frombuffer(payload, dtype="<f4", count=stop - start, offset=4 * start)
    return numbers.astype(np.float32, copy=False)


def _bf16_encode(vector: Vector) -> bytes:
    """The upper 16 bits of each float32, rounded to the nearest, of two as near to the even one.

    The error of an element is at most 2^-8 of it, or 2^-134 if it is denormal; what would round to
    infinity becomes the largest number there is, 0.4 % less (Kalamkar et al. 2019,
    arXiv:1905.12322).
    """
    payload = bytearray(2 * vector.size)
    halves = np.frombuffer(payload, dtype="<u2")
    for start, stop in ranges(0, vector.size):
        piece = np.ascontiguousarray(vector[start:stop])
        if not np.isfinite(piece).all():
            raise CodecError("bf16 takes finite numbers")
        bits = piece.view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        size = np.minimum((bits & ~_SIGN) + np.uint32(0x7FFF) + odd, _LARGEST_BF16 | 0xFFFF)
        halves[start:stop] = ((size | (bits & _SIGN)) >> np.uint32(16)).astype("<u2")
    return bytes(payload)


def _bf16_decode(payload: Bytes, d: int, start: int, stop: int) -> Vector:
    vector = np.empty(stop - start, dtype=np.float32)
    bits = vector.view(np.uint32)
    halves = np.frombuffer(payload, dtype="<u2", count=stop - start, offset=2 * start)
    np.left_shift(halves, np.uint32(16), out=bits, dtype=np.uint32, casting="safe")
    return vector


FLOAT32 = Codec(_float32_encode, _float32_decode, lossy=False)
BF16 = Codec(_bf16_encode, _bf16_decode, lossy=True)
