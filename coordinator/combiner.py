"""What is done with the bytes of updates, off the loop: screening one, combining many.

Each is a function of files and numbers, slow enough to keep the network waiting, so the service
runs it in a thread of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from config.settings import Aggregation
from coordinator.aggregation import reanchored, step, weighted_mean
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Combine, Contribution, Screened, UpdateId, VersionInfo
from federation.compression import CodecError, Vector, decode
from federation.layout import Layout
from federation.messages import Offer, Reason

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
    model, state = versions.load(order.base_version, layout)

    def deltas() -> Iterator[tuple[Vector, float, float]]:
        for part in order.contributions:
            payload = np.memmap(spool.path(part.id), dtype=np.uint8, mode="r")
            delta = decode(codecs[part.id], payload.data, layout.size)
            if rule.reanchor:
                delta = reanchored(delta, _base(part), model)
            yield delta, part.scale, part.weight

    def _base(part: Contribution) -> Vector:
        return versions.load(part.base_version, layout)[0] if part.staleness else model

    update = weighted_mean(deltas(), layout.size)
    model, state = step(rule, model, state, update)
    return versions.save(order.base_version + 1, model, state, layout)
