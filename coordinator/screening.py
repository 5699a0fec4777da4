"""Whether a complete upload can be believed: opened, decoded and measured, off the loop.

What was sealed, or wrapped by entropy coding, lies open and plain in the spool afterwards, so that
combining and replaying need no keys. A crash in between costs the device another upload of this
update, and nothing else. No step holds the whole vector: it is opened block by block in its place,
and decoded range by range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import BinaryIO, TypeAlias

import numpy as np

from coordinator.ranges import Encoded, Mapped, Source, by_ranges
from coordinator.spool import Spool
from coordinator.vocabulary import Screened, UpdateId
from federation.compression import plain, unpacked
from federation.layout import Layout
from federation.messages import Offer, Reason
from federation.sealing import SealError
from federation.sizes import CodecError

# With it the sums and squares of combining stay within float32, whatever the rule.
LARGEST_NORM = 1e15
# Numbers whose squares are summed in float32: few enough that five digits are right.
ROW = 1024

# Gives the payload of an update that was sealed, block by block; None if it was not.
Unseal: TypeAlias = Callable[[BinaryIO, str, Offer], Iterator[bytes] | None]


def norm_of(delta: Source, d: int, threads: int | None = None) -> float:
    """The L2 norm of Float32[d], the same bits with any number of threads; to five digits.

    Squares are summed in float32 by rows, in one pass over them, and the sums of the rows without
    error. Not by BLAS, whose threads sum in an order of their own. A number that is not finite
    makes it so; so does one over 1.8e19, which is refused just the same.

    Args:
        threads: as for `by_ranges`.

    Raises:
        CodecError: what is encoded is no vector.
    """
    squares: list[float] = []

    def measure(where: slice) -> None:
        numbers = delta[where]
        whole = numbers.size // ROW * ROW
        rows, rest = numbers[:whole].reshape(-1, ROW), numbers[whole:]
        with np.errstate(over="ignore", invalid="ignore"):
            squares.extend(np.einsum("ij,ij->i", rows, rows).tolist())
            squares.append(float(np.einsum("i,i->", rest, rest)))

    by_ranges(d, measure, threads)
    return math.sqrt(math.fsum(squares))


def screen(spool: Spool, layout: Layout, id: UpdateId, offer: Offer, unseal: Unseal) -> Screened:
    """Open a complete upload, and look whether it can be believed; it is durable when judged.

    Memory: a few ranges; of an entropy-coded one twice the bytes of the plain codec.

    Args:
        unseal: opens what is sealed.

    Raises:
        OSError: the disk is full.
    """
    try:
        norm = norm_of(_opened(spool, layout, id, offer, unseal), layout.size)
    except SealError as error:
        return Screened(id, 0.0, Reason.BAD_SEAL, str(error))
    except CodecError as error:
        return Screened(id, 0.0, Reason.BAD_SHAPE, str(error))
    if not norm <= LARGEST_NORM:
        detail = f"holds numbers that are not finite, or a norm over {LARGEST_NORM:g}"
        return Screened(id, 0.0, Reason.NOT_FINITE, detail)
    return Screened(id, norm, None)


def _opened(spool: Spool, layout: Layout, id: UpdateId, offer: Offer, unseal: Unseal) -> Source:
    path, d = spool.path(id), layout.size
    with path.open("rb") as upload:
        payload = unseal(upload, id.device, offer)
        if payload is not None:
            spool.replace(id, payload)
    if offer.codec == plain(offer.codec):
        return Mapped(path, offer.codec, d)
    whole = bytes(unpacked(offer.codec, path.read_bytes(), d))
    spool.replace(id, [whole])
    return Encoded(plain(offer.codec), whole, d)
