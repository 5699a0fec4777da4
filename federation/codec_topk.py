"""A codec that keeps the largest elements only: one in 32; the rest is left to error feedback.

What is not sent stays in the residual and grows there until it is among the largest (sparsified
SGD with memory: Stich et al. 2018, arXiv:1809.07599; Lin et al. 2018, arXiv:1712.01887). A payload
is, for each block of 256 elements, how many of them follow (uint16); the places of these in their
blocks, ascending (uint8); and their values, as int4 (`codec_blocks`).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from federation.codec import Bytes, Codec, Vector, ranges
from federation.codec_blocks import INT4
from federation.sizes import INT4_BLOCK, TOPK_BLOCK, CodecError, blocks_of, topk_kept

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_INFINITY = 0x7F800000
# The bits of a magnitude are looked at in two steps, 16 and then 15 of them.
_LOW_BITS = 15


def _topk_encode(vector: Vector) -> bytes:
    """The k = ceil(d / 32) elements of largest |x|; of equal ones those of the lowest index.

    The error of what is kept is that of int4; of what is not it is all of it, and at most the least
    |x| that is kept: the squared error of the whole is at most (1 - k/d) |x|^2 + that of int4.
    """
    d = vector.size
    k = topk_kept(d)
    least, ties = _least_kept(vector, k)
    counts = np.zeros(blocks_of(d, TOPK_BLOCK), dtype="<u2")
    places, values = [], []
    for start, stop in ranges(0, d):
        piece = vector[start:stop]
        bits = _magnitudes(piece)
        is_kept = bits > least
        if ties:
            equal = np.flatnonzero(bits == least)[:ties]
            is_kept[equal] = True
            ties -= equal.size
        kept = np.flatnonzero(is_kept)
        first, blocks = start // TOPK_BLOCK, blocks_of(stop - start, TOPK_BLOCK)
        counts[first : first + blocks] = np.bincount(kept // TOPK_BLOCK, minlength=blocks)
        places.append((kept % TOPK_BLOCK).astype(np.uint8).tobytes())
        values.append(piece[kept])
    return b"".join([counts.tobytes(), *places, INT4.encode(np.concatenate(values))])


def _topk_decode(payload: Bytes, d: int, start: int, stop: int) -> Vector:
    """As the other codecs; but not any bytes are a vector.

    Raises:
        CodecError: counts that are not those of d elements, or places that do not ascend.
    """
    k = topk_kept(d)
    counts = np.frombuffer(payload, dtype="<u2", count=blocks_of(d, TOPK_BLOCK))
    total = int(counts.sum(dtype=np.int64))
    if total != k:
        raise CodecError(f"topk: of {d} elements {k} are kept, not {total}")
    places = np.frombuffer(payload, dtype=np.uint8, count=k, offset=counts.nbytes)
    values = memoryview(payload).cast("B")[counts.nbytes + k :]
    vector = np.zeros(stop - start, dtype=np.float32)
    first = int(counts[: start // TOPK_BLOCK].sum(dtype=np.int64))
    for at, end in ranges(start, stop):
        here = counts[at // TOPK_BLOCK : blocks_of(end, TOPK_BLOCK)].astype(np.int64)
        last = first + int(here.sum())
        # Where each block begins, for each element of it that was kept.
        begins = np.repeat(np.arange(here.size, dtype=np.int64) * TOPK_BLOCK, here)
        inside = begins + places[first:last]
        if not (inside[1:] > inside[:-1]).all() or (inside.size and inside[-1] >= d - at):
            raise CodecError("topk: its places do not ascend, or lie outside")
        aligned = first // INT4_BLOCK * INT4_BLOCK
        numbers = INT4.decode(values, k, aligned, last)[first - aligned :]
        wanted = int(np.searchsorted(inside, end - at))  # a range may end within a block
        vector[at - start : end - start][inside[:wanted]] = numbers[:wanted]
        first = last
    return vector


def _least_kept(vector: Vector, k: int) -> tuple[np.uint32, int]:
    """The magnitude, as bits, that so few exceed, and how many that equal it are needed for k.

    By counting, as the bits of positive numbers have the order of the numbers: two passes over the
    vector, and nothing of its size is kept.
    """
    high = np.zeros(1 << (31 - _LOW_BITS), dtype=np.int64)
    for start, stop in ranges(0, vector.size):
        bits = _magnitudes(vector[start:stop]) >> np.uint32(_LOW_BITS)
        high += np.bincount(bits, minlength=high.size)
    if high[_INFINITY >> _LOW_BITS :].any():
        raise CodecError("topk takes finite numbers")
    top, above = _bin_of(high, k)
    low = np.zeros(1 << _LOW_BITS, dtype=np.int64)
    for start, stop in ranges(0, vector.size):
        bits = _magnitudes(vector[start:stop])
        inside = bits[bits >> np.uint32(_LOW_BITS) == top]
        low += np.bincount(inside & np.uint32(low.size - 1), minlength=low.size)
    rest, more = _bin_of(low, k - above)
    return np.uint32(top << _LOW_BITS | rest), k - above - more


def _bin_of(counts: npt.NDArray[np.int64], k: int) -> tuple[int, int]:
    """The bin in which the k-th largest lies, and how many are in those above it."""
    from_above = np.cumsum(counts[::-1])
    place = int(np.searchsorted(from_above, k))
    above = int(from_above[place - 1]) if place else 0
    return counts.size - 1 - place, above


def _magnitudes(piece: Vector) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = np.ascontiguousarray(piece).view(np.uint32) & _MAGNITUDE
    return bits


TOPK = Codec(_topk_encode, _topk_decode, lossy=True)
