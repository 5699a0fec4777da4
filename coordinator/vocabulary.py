"""What a coordinator's core knows, hears and asks for beyond what all cores share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from federation.layout import Layout
from federation.machine import (
    Linked,
    Log,
    Publish,
    Received,
    Stop,
    StorageFull,
    Tick,
    Unlinked,
)
from federation.messages import Manifest, Offer, Reason


@dataclass(frozen=True, slots=True)
class UpdateId:
    """The name of an update, for ever: no two trainings share it."""

    device: str
    outbox: bytes
    sequence: int


@dataclass(frozen=True, slots=True)
class VersionInfo:
    """A version of the model that is checkpointed; its payload is what devices fetch."""

    version: int
    codec: str
    payload: Manifest
    layout: Layout


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update in the ledger that no version contains yet."""

    id: UpdateId
    base_version: int
    examples: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """How one update enters a version: `scale` for its staleness, `weight` among the others."""

    id: UpdateId
    base_version: int
    staleness: int
    scale: float
    weight: float


@dataclass(frozen=True, slots=True)
class Recollection:
    """What the ledger remembers when a coordinator starts.

    Attributes:
        settled: for each outbox of each device the greatest sequence number that was accepted.
        buffer: accepted updates that no version contains yet, in the order of acceptance.
        tested: whether the current version has been tested.
    """

    ledger: bytes
    current: VersionInfo
    settled: dict[tuple[str, bytes], int]
    buffer: tuple[Accepted, ...]
    tested: bool = True


# Events


@dataclass(frozen=True, slots=True)
class UploadOpened:
    """The spool is ready for an upload, and holds some of its chunks already."""

    id: UpdateId
    held: frozenset[int]


@dataclass(frozen=True, slots=True)
class Screened:
    """A complete upload was decoded and measured; `refusal` says what is wrong with it."""

    id: UpdateId
    norm: float
    refusal: Reason | None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict is in the ledger for good: now it can be told."""

    verdict: Judge


@dataclass(frozen=True, slots=True)
class Combined:
    """A new version is checkpointed, and in the ledger together with what it is made of."""

    info: VersionInfo
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A version was tested; or, with `version` the newest, it could not be."""

    version: int
    metrics: dict[str, float]
    problem: str = ""


CoordinatorEvent: TypeAlias = (
    Linked
    | Unlinked
    | Received
    | Tick
    | StorageFull
    | UploadOpened
    | Screened
    | Judged
    | Combined
    | Evaluated
)

# Effects


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """Make the spool ready for this upload and tell what it holds: `UploadOpened`."""

    id: UpdateId
    payload: Manifest


@dataclass(frozen=True, slots=True)
class WriteChunk:
    """Keep one verified chunk of an upload."""

    id: UpdateId
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DropUpload:
    """Give up an upload that will not be finished."""

    id: UpdateId


@dataclass(frozen=True, slots=True)
class Screen:
    """Make a complete upload durable and measure it: `Screened`."""

    id: UpdateId
    offer: Offer


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete unfinished uploads that are too old or too many, but for those under way."""

    busy: frozenset[UpdateId]


@dataclass(frozen=True, slots=True)
class Judge:
    """Enter a verdict into the ledger, durably: `Judged`. Without a refusal it is accepted."""

    id: UpdateId
    offer: Offer
    norm: float = 0.0
    refusal: Reason | None = None
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Combine:
    """Make version `base_version + 1` of these updates, checkpoint and enter it: `Combined`."""

    base_version: int
    contributions: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Clean:
    """Delete versions before `oldest`, and the updates in them."""

    oldest: int


@dataclass(frozen=True, slots=True)
class Announce:
    """Publish the chunks of a version, as the link has room, and then its header."""

    info: VersionInfo
    slot: int
    header: bytes


@dataclass(frozen=True, slots=True)
class ServeChunk:
    """Publish one chunk of a stored version on this topic, if it is still stored."""

    topic: str
    version: int
    index: int


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Test this version aside: `Evaluated`."""

    version: int


@dataclass(frozen=True, slots=True)
class Report:
    """A row for the reports: what kind of row, and its facts."""

    kind: str
    facts: dict[str, Any]


CoordinatorEffect: TypeAlias = (
    Publish
    | Log
    | Stop
    | OpenUpload
    | WriteChunk
    | DropUpload
    | Sweep
    | Screen
    | Judge
    | Combine
    | Clean
    | Announce
    | ServeChunk
    | Evaluate
    | Report
)
