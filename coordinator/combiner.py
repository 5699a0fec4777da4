"""Many updates combined into a version, off the loop: a function of files and numbers.

It is slow enough to keep the network waiting, so the service runs it in a thread of its own, and
it takes all cores (`ranges`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import psutil

from config.failures import ExitCode, Failure
from config.settings import Aggregation
from coordinator.aggregation import reanchored, step, united
from coordinator.device_memory import DeviceMemory
from coordinator.ranges import Mapped, Source
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import Combine, Contribution, UpdateId, VersionInfo
from federation.compression import Vector
from federation.layout import Layout


@dataclass(frozen=True, slots=True)
class Successor:
    """The model that follows another one.

    Attributes:
        model: Float32[d].
        state: what the server's next step remembers, Float32[d] each, and `DeviceMemory.state`.
        outliers: the updates that the rule left out.
    """

    model: Vector
    state: dict[str, Vector]
    outliers: frozenset[UpdateId]


@dataclass(frozen=True, slots=True)
class Made:
    """A version that is checkpointed, and the updates that the rule left out of it."""

    info: VersionInfo
    outliers: frozenset[UpdateId]


def read_delta(spool: Spool, layout: Layout, id: UpdateId, codec: str) -> Source:
    """The delta of an update in the spool; it stays there until its ranges are used.

    Raises:
        CodecError: the file is not of the size that the codec says.
    """
    return Mapped(spool.path(id), codec, layout.size)


def read_base(versions: Versions, layout: Layout, version: int) -> Source:
    """A version as devices had it: what they fetched, as long as that is on disk."""
    fetched = versions.payload_path(version)
    if fetched.exists():
        return Mapped(fetched, versions.codec(version), layout.size)
    return versions.as_sent(version, layout)


def succeed(
    rule: Aggregation,
    model: Vector,
    state: dict[str, Vector],
    parts: Sequence[Contribution],
    read: Callable[[UpdateId], Source],
    base: Callable[[int], Source],
    threads: int | None = None,
) -> Successor:
    """The model that follows `model`, Float32[d].

    Memory, in models, with a mean: `model`, the update that becomes the next one, and what the
    step remembers of before and after (none for sgd, twice one for momentum, twice two for adam and
    yogi, twice one more for devices with a memory); of the updates no more than one.

    Args:
        state: what the last step remembered, and the sum of what devices do.
        parts: the updates, at least one, in the order in which they are summed.
        read: gives the delta of an update.
        base: gives a version of the model, as the device had it that trained on it.
        threads: as for `ranges.by_ranges`.
    """
    memory = None if parts[0].known is None else DeviceMemory(state, model.size)

    def deltas() -> Iterator[tuple[Source, float, float]]:
        for part in parts:
            delta = read(part.id)
            if memory is not None:
                memory.add(part)
                delta = _Heard(delta, memory)
            if rule.reanchor and part.staleness:
                delta = _Reanchored(delta, base(part.base_version), model)
            yield delta, part.scale, part.weight

    update, left_out = united(rule, deltas(), len(parts), model.size, threads)
    outliers = frozenset(part.id for part, out in zip(parts, left_out, strict=True) if out)
    if memory is not None:
        memory.calibrate(rule.memory_gain, update, threads)
    stepped, remembered = step(rule, model, state, update, into=update, threads=threads)
    if memory is not None:
        remembered = {**remembered, **memory.state()}
    return Successor(stepped, remembered, outliers)


@dataclass(frozen=True, slots=True)
class _Heard:
    """A delta whose ranges are added to the memory of devices when they are read: once each."""

    delta: Source
    memory: DeviceMemory

    def __getitem__(self, where: slice, /) -> Vector:
        news = self.delta[where]
        self.memory.hear(news, where)
        return news


@dataclass(frozen=True, slots=True)
class _Reanchored:
    """`reanchored`, by ranges."""

    delta: Source
    base: Source
    model: Vector

    def __getitem__(self, where: slice, /) -> Vector:
        return reanchored(self.delta[where], self.base[where], self.model[where])


def require_memory(rule: Aggregation, d: int) -> None:
    """Say at the start, not in the middle, that a rule would need more memory than there is.

    Raises:
        Failure: a buffer of updates of d elements does not fit.
    """
    if rule.combine in ("mean", "clipped_mean") or rule.trigger == "immediate":
        return
    needed, there = 4 * d * rule.buffer_size, psutil.virtual_memory().total
    if needed > there:
        raise Failure(
            ExitCode.CONFIG,
            f"aggregation.combine {rule.combine} holds {rule.buffer_size} updates at once,"
            f" {needed / 2**30:.1f} GiB, and this machine has {there / 2**30:.1f}; choose a smaller"
            " buffer_size, or clipped_mean, which holds one",
        )


def combine(
    rule: Aggregation,
    versions: Versions,
    spool: Spool,
    layout: Layout,
    codecs: dict[UpdateId, str],
    order: Combine,
) -> Made:
    """Make version `base_version + 1` of the contributions and checkpoint it.

    Memory: as for `succeed`; what `Versions.load` and `save` take on top comes before and after.

    Args:
        codecs: how each of the updates is encoded.
    """
    made = succeed(
        rule,
        *versions.load(order.base_version, layout),
        order.contributions,
        read=lambda id: read_delta(spool, layout, id, codecs[id]),
        base=lambda version: read_base(versions, layout, version),
    )
    info = versions.save(order.base_version + 1, made.model, made.state, layout)
    return Made(info, made.outliers)
