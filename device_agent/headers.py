"""What a header means for the work on its version: which one it is, and whether it is worth it."""

from __future__ import annotations

from federation.layout import Layout, LayoutError
from federation.messages import Header
from federation.sizes import CodecError, encoded_size

VersionKey = tuple[bytes, int]


def is_hopeless(header: Header, newest: Header) -> bool:
    """Whether what is trained on this version would be refused as stale, or foreign."""
    if header.ledger != newest.ledger:
        return True
    return newest.version - header.version > newest.max_staleness


def key_of(header: Header) -> VersionKey:
    """Which version of which ledger this is."""
    return header.ledger, header.version


def fault_of(header: Header, task: str) -> str | None:
    """Why a version is not for a device with this task; its sizes, before room is made for them."""
    if header.task != task:
        return f"it is of the task {header.task}, ours is {task}"
    try:
        expected = encoded_size(header.codec, Layout.from_wire(header.layout).size)
    except (CodecError, LayoutError) as error:
        return str(error)
    told = header.payload.size
    return None if told == expected else f"{told} bytes are told, {expected} are right"


def is_same(one: Header, other: Header) -> bool:
    """Whether two headers announce the same."""
    return one.ledger == other.ledger and one.age == other.age
