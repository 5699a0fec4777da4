"""What a codec is, and the words for it: vectors, bytes, ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from federation.sizes import RANGE

Vector: TypeAlias = npt.NDArray[np.float32]
Bytes: TypeAlias = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Codec:
    """How a vector of size d becomes bytes, and these a vector.

    Attributes:
        encode: Float32[d] to bytes, of a size that d alone decides.
        decode: is given such bytes, of the right size, d, and the range of elements that is wanted,
            which begins at a multiple of `RANGE`.
        lossy: whether decoding gives something else than what was encoded.
    """

    encode: Callable[[Vector], bytes]
    decode: Callable[[Bytes, int, int, int], Vector]
    lossy: bool


def ranges(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The way from start to stop in pieces of `RANGE`: what is worked on then fits the cache."""
    for at in range(start, stop, RANGE):
        yield at, min(stop, at + RANGE)
