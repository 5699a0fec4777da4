"""What an agent's core hears and asks for beyond what all cores share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from federation.machine import (
    Linked,
    Log,
    Publish,
    Received,
    Stop,
    StorageFull,
    Subscribe,
    Tick,
    Unlinked,
    Unsubscribe,
)
from federation.messages import Header, Offer

# Events


@dataclass(frozen=True, slots=True)
class Prepared:
    """The store is ready for the chunks of a version, and holds some of them already."""

    header: Header
    held: frozenset[int]


@dataclass(frozen=True, slots=True)
class TrainingBegun:
    """The worker has the job, and there is room for what will come of it."""

    version: int


@dataclass(frozen=True, slots=True)
class TrainingStalled:
    """The training is done, and the worker waits for room to write what came of it."""

    version: int


@dataclass(frozen=True, slots=True)
class TrainingEnded:
    """The worker trained on a version; its encoded delta lies in a file, not yet in the outbox.

    `noised` is with what clip norm and noise multiplier the worker made it private, if it did.
    """

    version: int
    examples: int
    steps: int
    train_s: float
    metrics: dict[str, float]
    noised: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class TrainingFailed:
    """The worker could not train on a version, or died over it."""

    version: int
    reason: str
    storage_full: bool = False


@dataclass(frozen=True, slots=True)
class Committed:
    """An update is in the outbox for good."""

    offer: Offer


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A judged update is no longer in the outbox."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Looked:
    """The machine was looked at: why it may not train now, or nothing."""

    hindrance: str


AgentEvent: TypeAlias = (
    Linked
    | Unlinked
    | Received
    | Tick
    | StorageFull
    | Prepared
    | TrainingBegun
    | TrainingStalled
    | TrainingEnded
    | TrainingFailed
    | Committed
    | Forgotten
    | Looked
)

# Effects


@dataclass(frozen=True, slots=True)
class Prepare:
    """Make the store ready for this version and tell what it holds: `Prepared`."""

    header: Header


@dataclass(frozen=True, slots=True)
class StoreChunk:
    """Keep one verified chunk of the version that is being fetched."""

    header: Header
    index: int
    data: bytes


@dataclass(frozen=True, slots=True)
class Train:
    """Train on the version that was fetched: `TrainingBegun`, then an end or a failure."""

    header: Header


@dataclass(frozen=True, slots=True)
class Look:
    """Look whether the machine may train now: `Looked`."""

    was_hindered: bool


@dataclass(frozen=True, slots=True)
class Pause:
    """Save the training under way and end it, to go on with it later."""


@dataclass(frozen=True, slots=True)
class Abandon:
    """Stop the training under way: what came of it would be refused."""


@dataclass(frozen=True, slots=True)
class Commit:
    """Enter what was trained into the outbox: `Committed`."""

    header: Header
    outcome: TrainingEnded


@dataclass(frozen=True, slots=True)
class SendChunk:
    """Publish one chunk of an update from the outbox."""

    sequence: int
    index: int


@dataclass(frozen=True, slots=True)
class Forget:
    """The coordinator has judged this update: delete it from the outbox, `Forgotten`.

    If it was accepted, the memory that it leads to is the current one from then on.
    """

    sequence: int
    accepted: bool = False


AgentEffect: TypeAlias = (
    Publish
    | Subscribe
    | Unsubscribe
    | Log
    | Stop
    | Prepare
    | StoreChunk
    | Train
    | Look
    | Pause
    | Abandon
    | Commit
    | SendChunk
    | Forget
)
