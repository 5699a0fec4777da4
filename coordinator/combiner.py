"""What is done with the bytes of updates, off the loop: screening one, combining many.

Each is a function of files and numbers, slow enough to keep the network waiting, so the service
runs it in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from config.settings import Aggregation
from coordinator.aggregation import reanchored, step, weighted_mean
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Combine, Contribution, Screened, UpdateId, VersionInfo
from federation.compression import Vector, decode
from federation.layout import Layout
from federation.messages import Offer, Reason
from federation.sizes import CodecError

# With it the sums and squares of combining stay within float32, whatever the rule.
LARGEST_NORM = 1e15


def screen(spool: Spool, layout: Layout, id: UpdateId, offer: Offer) -> Screened:
    """Force a complete upload to disk, decode it, and look whether it can be believed."""
    spool.sync(id)
    try:
        delta = decode(offer.codec, spool.path(id).read_bytes(), layout.size)
    except CodecError as error:
        return Screened(id, 0.0, Reason.BAD_SHAPE, str(error))
    # In float64, as the square of a large finite float32 overflows.
    norm = float(np.linalg.norm(delta.astype(np.float64)))
    if not norm <= LARGEST_NORM:
        detail = f"holds numbers that are not finite, or a norm over {LARGEST_NORM:g}"
        return Screened(id, 0.0, Reason.NOT_FINITE, detail)
    return Screened(id, norm, None)


def read_delta(spool: Spool, layout: Layout, id: UpdateId, codec: str) -> Vector:
    """The delta Float32[d] of an update in the spool; a float32 one stays on disk until used."""
    payload = np.memmap(spool.path(id), dtype=np.uint8, mode="r")
    return decode(codec, payload.data, layout.size)


def succeed(
    rule: Aggregation,
    model: Vector,
    state: dict[str, Vector],
    parts: Sequence[Contribution],
    read: Callable[[UpdateId], Vector],
    base: Callable[[int], Vector],
) -> tuple[Vector, dict[str, Vector]]:
    """The model that follows `model`, Float32[d], and what the next step remembers.

    Args:
        state: what the last step remembered.
        parts: the updates, in the order in which they are summed.
        read: gives the delta of an update.
        base: gives a version of the model, as the device had it that trained on it.
    """

    def deltas() -> Iterator[tuple[Vector, float, float]]:
        for part in parts:
            delta = read(part.id)
            if rule.reanchor and part.staleness:
                delta = reanchored(delta, base(part.base_version), model)
            yield delta, part.scale, part.weight

    return step(rule, model, state, weighted_mean(deltas(), model.size))


def combine(
    rule: Aggregation,
    versions: Versions,
    spool: Spool,
    layout: Layout,
    codecs: dict[UpdateId, str],
    order: Combine,
) -> VersionInfo:
    """Make version `base_version + 1` of the contributions and checkpoint it.

    Args:
        codecs: how each of the updates is encoded.
    """
    model, state = succeed(
        rule,
        *versions.load(order.base_version, layout),
        order.contributions,
        read=lambda id: read_delta(spool, layout, id, codecs[id]),
        base=lambda version: versions.load(version, layout)[0],
    )
    return versions.save(order.base_version + 1, model, state, layout)
