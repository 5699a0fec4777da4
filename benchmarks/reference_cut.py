"""Which labels a party has in the runs of NIID-Bench's authors.

Their code seeds numpy's older generator, and draws the cut before all else; their README tells the
seeds of their runs: 0, and 1 and 2 where a run is repeated. The same calls in the same order give
each party as many images of each label as it had there. Which images these are is not the same: the
order of the images differs.
"""

from __future__ import annotations

import numpy as np

from config.partition import Partition
from learning.chunks import Labels

LEAST = 10


def reference_cut(labels: Labels, devices: int, rule: Partition, *, seed: int) -> list[Labels]:
    """Sorted indices, int64[k], for each device, by Dirichlet(rule.alpha), balanced as there.

    Args:
        labels: int64[n] of the whole set.
        devices: number of parts, each of at least ten images.
        rule: its alpha counts.
        seed: what the generator is seeded with, below 2**32.
    """
    chance = np.random.RandomState(seed)
    while True:
        parts: list[list[int]] = [[] for _ in range(devices)]
        for label in np.unique(labels):
            members = np.flatnonzero(labels == label)
            chance.shuffle(members)
            shares = chance.dirichlet(np.full(devices, rule.alpha))
            shares *= [len(part) * devices < len(labels) for part in parts]
            ends = np.cumsum(shares / shares.sum())[:-1] * len(members)
            for part, taken in zip(parts, np.split(members, ends.astype(int)), strict=True):
                part.extend(taken.tolist())
        if min(map(len, parts)) >= LEAST:
            return [np.sort(np.array(part, np.int64)) for part in parts]
