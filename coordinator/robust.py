"""Robust rules: one vector of many, though some of them were made to spoil it.

Plain functions over the rows of one array, (n, d) float32, finite; none changes it. It takes
4 n d bytes, 1.3 GB for 50 updates of 6.5 million numbers; as the work goes by blocks of columns
that fit a processor's cache, the result is all that comes on top. Same rows in the same order:
the same bits. No BLAS and no einsum, whose sums depend on the processor and its threads.

A rule's breakdown point is the greatest share of rows that may be anything while the result stays
within a bound set by the others. It speaks of wreckage, not of bias: hostile rows that stay among
the honest ones move every rule a little (docs/robustness.md has the measure of that).
"""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import numpy as np
import numpy.typing as npt

from federation.compression import Vector

Rows = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

# Half of a small processor's second cache, and room for temporaries.
_BLOCK_BYTES = 2**19


def assumed_hostile(fraction: float, n: int) -> int:
    """How many of n rows are taken for hostile: the fraction of them, rounded up.

    Each rule lowers it to the most that it can bear of n rows.
    """
    # 0.07 * 100 is a little over 7 in floating point.
    return max(0, ceil(fraction * n - 1e-9))


def trimmed_mean(rows: Rows, trimmed: int) -> Vector:
    """The mean of each coordinate without its `trimmed` greatest and smallest values, Float32[d].

    Yin et al. 2018, arXiv:1803.01498, definition 2. Breakdown point trimmed / n. With more than
    can be cut, (n - 1) // 2 are: what is left is the median. So of one or two rows it is the
    mean. O(d n log n) time.

    Args:
        rows: Float32[n, d], n at least 1.
        trimmed: values cut at either end.
    """
    n, d = rows.shape
    cut = min(trimmed, (n - 1) // 2)
    combined = np.empty(d, dtype=np.float32)
    for columns, block in _sorted_columns(rows):
        kept = block[:, cut : n - cut]
        total = np.zeros(len(block), dtype=np.float64)
        for rank in range(kept.shape[1]):
            total += kept[:, rank]
        # Adding 0 makes of -0.0 the one zero, whichever of the two the sort put first.
        combined[columns] = total / kept.shape[1] + 0.0
    return combined


def median(rows: Rows) -> Vector:
    """The median of each coordinate, Float32[d]; of an even n the mean of the middle two.

    Yin et al. 2018, arXiv:1803.01498, definition 1. Breakdown point floor((n - 1) / 2) / n, the
    best there is. Of one or two rows it is the mean. O(d n log n) time.

    Args:
        rows: Float32[n, d], n at least 1.
    """
    combined = np.empty(rows.shape[1], dtype=np.float32)
    for columns, block in _sorted_columns(rows):
        combined[columns] = _middle(block)
    return combined


def geometric_median(
    rows: Rows,
    weights: npt.NDArray[np.float64] | None = None,
    smoothing: float = 0.01,
    tolerance: float = 1e-3,
    most_steps: int = 50,
) -> Vector:
    """The point of least sum of weighted distances to the rows, Float32[d].

    The smoothed Weiszfeld algorithm of RFA, Pillutla et al. 2022, arXiv:1912.13445: again and
    again the mean of the rows, each weighted by weight / max(nu, distance). Two things are not as
    there. It begins at the coordinate-wise median instead of the mean: the first point
    is already out of reach of the hostile rows, and so is each next one; from the mean, rows at
    distance R would take log R steps to be forgotten. And nu goes with the size of the updates,
    so that a point that happens to be a row, or that a hostile row was put on, is left again.

    Breakdown point: less than half of the weight (and of the rows, for the beginning), so
    floor((n - 1) / 2) / n of equal ones. Where devices tell their own weight, one that lies can
    have half of it. Of one or two equal rows it is the mean. O(n d) time a step, in which the
    rows are read once; O(d n log n) for the beginning.

    Args:
        rows: Float32[n, d], n at least 1. A row further than 1.8e19 counts as infinitely far.
        weights: Float64[n], all positive; equal if none.
        smoothing: nu, as a share of the median distance of the rows from the beginning.
        tolerance: it ends with a step shorter than this share of that distance,
        most_steps: or after so many steps.
    """
    n, d = rows.shape
    weights = np.ones(n) if weights is None else weights
    point = np.empty(d, dtype=np.float32)
    squares = np.zeros(n, dtype=np.float64)
    for columns, block in _sorted_columns(rows):
        point[columns] = _middle(block)
        squares += _squares_to(rows[:, columns], point[columns])
    reach = float(np.sqrt(np.sort(squares)[(n - 1) // 2]))
    nu = max(smoothing * reach, 1e-20)
    for _ in range(most_steps):
        pulls = weights / np.maximum(np.sqrt(squares), nu)
        if not pulls.any():
            break
        shares = (pulls / np.sum(pulls)).astype(np.float32)
        pulling = np.flatnonzero(shares)
        squares = np.zeros(n, dtype=np.float64)
        moved = 0.0
        for columns in _blocks(n, d):
            # By differences, as the rows may have more in common than float32 has digits.
            former = point[columns]
            step = np.zeros_like(former)
            for row in pulling:
                step += (rows[row, columns] - former) * shares[row]
            moved += float(np.square(step).sum())
            former += step
            squares += _squares_to(rows[:, columns], former)
        if moved <= (tolerance * reach) ** 2:
            break
    return point


def multi_krum(rows: Rows, hostile: int, chosen: int | None = None) -> tuple[Vector, Mask]:
    """The mean of the rows that lie closest among the others, Float32[d], and which they are.

    Blanchard et al. 2017, "Machine learning with adversaries" (NIPS 30): the score of a row is
    the sum of the squared distances to its n - f - 2 nearest others; the `chosen` rows of the
    least score are averaged, the earlier of two alike. With chosen = 1 it is Krum.

    Breakdown point f / n with n - f chosen, where f = `hostile` but at most (n - 3) // 2, as the
    paper needs n >= 2 f + 3. Of fewer than five rows that is 0: then all are chosen, and it is
    the mean. O(n^2 d) time, O(n^2) memory.

    Args:
        rows: Float32[n, d], n at least 1. Rows further apart than 1.8e19 are infinitely so.
        hostile: rows assumed hostile, f.
        chosen: rows to average, n - f if none.
    """
    n, d = rows.shape
    f = max(0, min(hostile, (n - 3) // 2))
    count = n - f if chosen is None else max(1, min(chosen, n))
    mask = np.zeros(n, dtype=np.bool_)
    if count == n:
        mask[:] = True
    else:
        # In each sorted row the first is the distance 0 to itself.
        nearest = np.sort(_squares_between(rows), axis=1)[:, 1 : max(2, n - f - 1)]
        mask[np.argsort(nearest.sum(axis=1), kind="stable")[:count]] = True
    mean = np.empty(d, dtype=np.float32)
    for columns in _blocks(n, d):
        total = np.zeros(len(range(*columns.indices(d))), dtype=np.float64)
        for row in np.flatnonzero(mask):
            total += rows[row, columns]
        mean[columns] = total / count
    return mean, mask


def mixed(rows: Rows, hostile: int) -> Rows:
    """Each row as the mean of itself and its nearest others, n - hostile in all, Float32[n, d].

    Nearest-neighbour mixing, Allouah et al. 2023, arXiv:2302.01772, algorithm 2, to be put before a
    robust rule. Devices of unlike data send unlike rows, among which hostile ones have room; mixed,
    the honest rows lie close together, and what a rule makes of them is near their mean. It keeps
    the breakdown point of the rule, if no more than `hostile` rows are. O(n^2 d) time; another n d
    numbers.

    Args:
        rows: Float32[n, d], n at least 1. Rows further apart than 1.8e19 are infinitely so.
        hostile: rows assumed hostile, below n.
    """
    n, d = rows.shape
    kept = n - hostile
    nearest = np.argsort(_squares_between(rows), axis=1, kind="stable")[:, :kept]
    result = np.empty_like(rows)
    for columns in _blocks(n, d):
        for row in range(n):
            total = np.zeros(len(range(*columns.indices(d))), dtype=np.float64)
            for other in np.sort(nearest[row]):
                total += rows[other, columns]
            result[row, columns] = total / kept
    return result


def _blocks(n: int, d: int) -> Iterator[slice]:
    width = max(64, _BLOCK_BYTES // (4 * n))
    return (slice(start, min(start + width, d)) for start in range(0, d, width))


def _sorted_columns(rows: Rows) -> Iterator[tuple[slice, Rows]]:
    """Which columns, and they as sorted rows, Float32[width, n].

    A whole sort of few numbers next to each other is faster than np.partition of a block.
    """
    n, d = rows.shape
    for columns in _blocks(n, d):
        block = np.array(rows[:, columns].T, order="C")
        block.sort(axis=1)
        yield columns, block


def _middle(block: Rows) -> Vector:
    n = block.shape[1]
    # Halved first, as the sum of two large numbers may overflow; + 0 as in the trimmed mean.
    middle: Vector = block[:, (n - 1) // 2] * np.float32(0.5) + block[:, n // 2] * np.float32(0.5)
    return middle + np.float32(0)


def _squares_to(rows: Rows, point: Vector) -> npt.NDArray[np.float64]:
    """Squared distances of the rows of a block to a point, Float64[n]."""
    with np.errstate(over="ignore"):
        difference = rows - point
        np.square(difference, out=difference)
        sums: npt.NDArray[np.float32] = np.add.reduce(difference, axis=1)
    return sums.astype(np.float64)


def _squares_between(rows: Rows) -> npt.NDArray[np.float64]:
    """Squared distances of the rows, Float64[n, n].

    Not by the product of the rows with themselves: where they have much in common it would leave
    nothing but rounding.
    """
    n, d = rows.shape
    squares = np.zeros((n, n), dtype=np.float64)
    for columns in _blocks(n, d):
        block = np.ascontiguousarray(rows[:, columns])
        for row in range(n - 1):
            squares[row, row + 1 :] += _squares_to(block[row + 1 :], block[row])
    return squares + squares.T
