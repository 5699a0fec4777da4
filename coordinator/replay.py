"""Replay: make versions again from the ledger and the spool, as they were or as they would be.

With nobody left out each version comes out bit for bit as it was. Without a device it is what the
model would have been had that device never taken part, as far as the others' updates tell: what
they sent they had learned from the versions as they were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from config.failures import ExitCode, Failure
from coordinator.combiner import read_base, read_delta, succeed
from coordinator.ledger import Ledger
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Contribution
from federation.compression import Vector
from federation.layout import Layout


@dataclass(frozen=True, slots=True)
class Replayed:
    """One version, made again.

    Attributes:
        model: Float32[d].
        state: what the server's step remembers, Float32[d] each.
        used, left_out: number of updates in it, and of those left out.
        distance: Euclidean norm of the difference from the version as it was; None if that is
            not on disk any more. Bit for bit equal is `identical`.
    """

    version: int
    model: Vector
    state: dict[str, Vector]
    used: int
    left_out: int
    distance: float | None
    identical: bool | None


class History:
    """What is still there of the past: the ledger, and the files of the spool and the versions."""

    def __init__(self, ledger: Ledger, versions: Versions, spool: Spool, layout: Layout) -> None:
        self._ledger = ledger
        self._versions = versions
        self._spool = spool
        self._layout = layout

    def oldest_start(self, to: int) -> int:
        """The oldest version from which `to` can be reached by what is on disk.

        Raises:
            Failure: there is no such version, not even the one before.
        """
        start = to
        while start > 0 and self._can_make(start) and self._versions.has(start - 1):
            start -= 1
        if start == to and self._ledger.recipe(to) is not None:
            raise Failure(
                ExitCode.NO_INPUT,
                f"version {to} cannot be made again: its updates, or the version before it, are "
                "no longer on disk (coordinator setting keep_versions)",
            )
        return start

    def replay(self, start: int, to: int, without: frozenset[str]) -> Iterator[Replayed]:
        """Make the versions after `start` again, up to `to`, leaving devices out."""
        model, state = self._versions.load(start, self._layout)
        for version in range(start + 1, to + 1):
            recipe = self._ledger.recipe(version)
            assert recipe is not None, "a start is never before a version that nothing made"
            rule, parts = recipe
            kept = [part for part in parts if part.id.device not in without]
            if kept:
                codecs = self._ledger.codecs(part.id for part in kept)
                made = succeed(
                    rule,
                    model,
                    state,
                    kept,
                    read=lambda id, codecs=codecs: read_delta(  # type: ignore[misc]
                        self._spool, self._layout, id, codecs[id]
                    ),
                    base=lambda base: read_base(self._versions, self._layout, base),
                )
                model, state = made.model, made.state
            was = self._as_it_was(version)
            yield Replayed(
                version=version,
                model=model,
                state=state,
                used=len(kept),
                left_out=len(parts) - len(kept),
                distance=None if was is None else float(np.linalg.norm(model - was)),
                identical=None if was is None else model.tobytes() == was.tobytes(),
            )

    def _can_make(self, version: int) -> bool:
        recipe = self._ledger.recipe(version)
        if recipe is None:
            return False
        rule, parts = recipe
        return all(self._has(part, rule.reanchor) for part in parts)

    def _has(self, part: Contribution, with_base: bool) -> bool:
        stored = self._spool.path(part.id).exists()
        return stored and (not with_base or self._versions.has(part.base_version))

    def _as_it_was(self, version: int) -> Vector | None:
        if not self._versions.has(version):
            return None
        return self._versions.load(version, self._layout)[0]
