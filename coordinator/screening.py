"""Whether a complete upload can be believed: opened, decoded and measured, off the loop.

What was sealed lies open in the spool afterwards, so that combining and replaying need no keys. A
crash in between costs the device another upload of this update, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np

from coordinator.spool import Spool
from coordinator.vocabulary import Screened, UpdateId
from federation.compression import Vector, decode
from federation.layout import Layout
from federation.messages import Offer, Reason
from federation.sealing import SealError
from federation.sizes import CodecError

# With it the sums and squares of combining stay within float32, whatever the rule.
LARGEST_NORM = 1e15

# Gives the payload of an update that was sealed.
Unseal: TypeAlias = Callable[[bytes, str, Offer], bytes]


def norm_of(delta: Vector) -> float:
    """The L2 norm of Float32[d], the same bits on any machine with any number of threads.

    In float64, as the square of a large finite float32 overflows; and not by BLAS, whose threads
    sum in an order of their own.
    """
    return float(np.sqrt(np.square(delta, dtype=np.float64).sum()))


def screen(spool: Spool, layout: Layout, id: UpdateId, offer: Offer, unseal: Unseal) -> Screened:
    """Make a complete upload durable, open it, and look whether it can be believed.

    Args:
        unseal: opens what is sealed; where nothing is, it gives the payload as it came.

    Raises:
        OSError: the disk is full.
    """
    try:
        payload = _opened(spool, id, offer, unseal)
        delta = decode(offer.codec, payload, layout.size)
    except SealError as error:
        return Screened(id, 0.0, Reason.BAD_SEAL, str(error))
    except CodecError as error:
        return Screened(id, 0.0, Reason.BAD_SHAPE, str(error))
    norm = norm_of(delta)
    if not norm <= LARGEST_NORM:
        detail = f"holds numbers that are not finite, or a norm over {LARGEST_NORM:g}"
        return Screened(id, 0.0, Reason.NOT_FINITE, detail)
    return Screened(id, norm, None)


def _opened(spool: Spool, id: UpdateId, offer: Offer, unseal: Unseal) -> bytes:
    sealed = spool.path(id).read_bytes()
    payload = unseal(sealed, id.device, offer)
    if payload is sealed:
        spool.sync(id)
    else:
        spool.replace(id, payload)
    return payload
