"""An update from what was learned: the same function on a device and in a simulation.

Two ways to make good for what a codec loses. A residual carries what was rounded away over to the
next update (error feedback: Karimireddy et al. 2019, arXiv:1901.09847). A memory h is the sum of
what the coordinator took from this device; sent is d = C(delta - h), and h + C⁻¹(d) is the memory
once d is accepted (EF21: Richtarik et al. 2021, arXiv:2106.05203; with the coordinator's sum of
all d it is what CA2FL and MIFA keep of each device: docs/decisions/0015-which-algorithm-when.md).
What is rounded away is in the next difference by itself, so a memory needs no residual.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from federation.codec import ranges
from federation.compression import (
    Vector,
    decode,
    decode_range,
    encode,
    is_lossy,
    packed,
    plain,
)

# What privacy does to a vector before it is encoded.
Cover: TypeAlias = Callable[[Vector], Vector]


@dataclass(frozen=True, slots=True)
class Update:
    """What is sent, and what the device keeps of it.

    Attributes:
        payload: the encoded vector.
        residual: what was rounded away, Float32[d]; None with a memory, or if nothing was.
        memory: what the memory is once the update is accepted, Float32[d]; None without one.
    """

    payload: bytes
    residual: Vector | None
    memory: Vector | None


def make_update(
    delta: Vector,
    codec: str,
    *,
    residual: Vector | None = None,
    memory: Vector | None = None,
    cover: Cover | None = None,
) -> Update:
    """The update that says what was learned.

    Args:
        delta: Float32[d], trained model - received model.
        residual: what was rounded away of the last update, Float32[d].
        memory: what is remembered, Float32[d], zeros at first; None where there is no memory.
        cover: clips and noises what is to be sent. It is given delta - memory: what it gave before
            is known to the other end, and each answer is one mechanism of its own.

    Raises:
        ValueError: both a residual and a memory.
    """
    if memory is not None:
        if residual is not None:
            raise ValueError("with a memory there is no residual")
        news = _covered(delta - memory, cover)
        payload = encode(plain(codec), news)
        held = memory + decode(plain(codec), payload, delta.size)
        return Update(packed(codec, payload), None, held)
    whole = _covered(delta, cover)
    if residual is not None:
        whole = whole + residual
    payload = encode(plain(codec), whole)
    rest = _rest(whole, plain(codec), payload) if is_lossy(codec) else None
    return Update(packed(codec, payload), rest, None)


def _rest(whole: Vector, codec: str, payload: bytes) -> Vector:
    """What a payload lacks of a vector, Float32[d]; the payload is decoded by ranges."""
    rest = np.empty_like(whole)
    for start, stop in ranges(0, whole.size):
        told = decode_range(codec, payload, whole.size, start, stop)
        np.subtract(whole[start:stop], told, out=rest[start:stop])
    return rest


def _covered(vector: Vector, cover: Cover | None) -> Vector:
    return vector if cover is None else cover(vector)
