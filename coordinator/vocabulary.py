"""What a coordinator's core knows, hears and asks for beyond what all cores share.

The module is long because all of its facts, events and effects stand in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
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
    """A version of the model that is checkpointed; its payload is what devices fetch.

    `seal` is the key to which updates on it are sealed; empty where nothing is.
    """

    version: int
    codec: str
    payload: Manifest
    layout: Layout
    seal: bytes = b""


@dataclass(frozen=True, slots=True)
class Accepted:
    """An update in the ledger that no version contains yet; `norm` is that of its delta."""

    id: UpdateId
    base_version: int
    examples: int
    norm: float = 0.0


@dataclass(frozen=True, slots=True)
class Contribution:
    """How one update enters a version.

    Attributes:
        scale: what it is multiplied with, for its staleness and its length.
        weight: how much it counts among the others.
        clip: the part of `scale` that shortens it to the bound; 1 if it was not too long.
        known: with device-held memory, whether an earlier version has an update of its outbox;
            None without.
    """

    id: UpdateId
    base_version: int
    staleness: int
    scale: float
    weight: float
    clip: float = 1.0
    known: bool | None = None


@dataclass(frozen=True, slots=True)
class Mark:
    """What a version tells of a device: how its update was shortened, whether it was left out."""

    device: str
    version: int
    clip: float
    outlier: bool


@dataclass(frozen=True, slots=True)
class Entry:
    """The last word on a device: in quarantine or let out, by whom and why.

    Attributes:
        by: "hand" or "rule".
        version: the newest version when it was said.
        at: when, in seconds since 1970; 0 if that was not written down yet.
    """

    quarantined: bool
    by: str
    reason: str
    version: int
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Recollection:
    """What the ledger remembers when a coordinator starts.

    Attributes:
        settled: for each outbox of each device the greatest sequence number that was accepted.
        buffer: accepted updates that no version contains yet, in the order of acceptance.
        tested: whether the current version has been tested.
        norms: the last devices that an update was accepted of, each with the norm of its last
            one, oldest first.
        contributed: the last version that each device is in.
        marks: the contributions to the last versions, oldest first.
        entries: the last word on each device that ever was in quarantine.
        founded: when the ledger was made, in seconds since 1970.
        signer: epoch of the coordinator's credential.
        seals: the names of the keys to which updates may be sealed; none where nothing is.
        holders: (device, outbox) of all updates in the devices' memory.
    """

    ledger: bytes
    current: VersionInfo
    settled: dict[tuple[str, bytes], int]
    buffer: tuple[Accepted, ...]
    tested: bool = True
    norms: tuple[tuple[str, float], ...] = ()
    contributed: Mapping[str, int] = field(default_factory=dict)
    marks: Iterable[Mark] = ()
    entries: Mapping[str, Entry] = field(default_factory=dict)
    founded: int = 0
    signer: int = 0
    seals: frozenset[bytes] = frozenset()
    holders: frozenset[tuple[str, bytes]] = frozenset()


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
    """A new version is checkpointed, and in the ledger together with what it is made of.

    `outliers` are those of its updates that the rule left out.
    """

    info: VersionInfo
    contributions: tuple[Contribution, ...]
    outliers: frozenset[UpdateId] = frozenset()


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A version was tested; or, with `version` the newest, it could not be.

    `findings` is what the test showed beyond figures: `learning.outcomes.findings`.
    """

    version: int
    metrics: dict[str, float]
    problem: str = ""
    findings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuarantineChanged:
    """Somebody changed by hand who is in quarantine; `entries` are all there are."""

    entries: Mapping[str, Entry]


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
    | QuarantineChanged
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
    """Open a complete upload and measure it: `Screened`."""

    id: UpdateId
    offer: Offer


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete unfinished uploads that are too old or too many, but for those under way."""

    busy: frozenset[UpdateId]


@dataclass(frozen=True, slots=True)
class Judge:
    """Enter a verdict, durably, and what it accepts: `Judged`.

    Without a refusal the update is accepted.
    """

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
class Quarantine:
    """Write down, durably, that the rule put a device into quarantine."""

    device: str
    entry: Entry


@dataclass(frozen=True, slots=True)
class SetAside:
    """Note in the ledger that these accepted updates will be in no version."""

    ids: tuple[UpdateId, ...]


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
    | Quarantine
    | SetAside
    | Clean
    | Announce
    | ServeChunk
    | Evaluate
    | Report
)
