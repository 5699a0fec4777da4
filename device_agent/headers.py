"""What a header means for the work on its version: which one it is, and whether it is worth it."""

from __future__ import annotations

from federation.layout import Layout, LayoutError
from federation.machine import Received
from federation.messages import Header, Message, MessageError, decode
from federation.sizes import CODECS, CodecError, encoded_size

VersionKey = tuple[bytes, int]
SEALING_KEY_BYTES = 32


def is_hopeless(header: Header, newest: Header) -> bool:
    """Whether what is trained on this version would be refused as stale, or foreign."""
    if header.ledger != newest.ledger:
        return True
    return newest.version - header.version > newest.max_staleness


def key_of(header: Header) -> VersionKey:
    """Which version of which ledger this is."""
    return header.ledger, header.version


def message_of(event: Received) -> Message:
    """The message that was received.

    Raises:
        MessageError: it is none; or a header that tells of another signer than its own, as it
            would be remembered as that one's word.
    """
    message = decode(event.payload)
    if isinstance(message, Header) and event.epoch not in (None, message.signer):
        raise MessageError("it names another signer than its own")
    return message


def is_news(header: Header, newest: Header | None, seen: Header | None) -> bool:
    """Whether a header tells of a version that is not known yet, and was not replaced since.

    Args:
        newest: the newest that was heard of.
        seen: the last one that was begun to be fetched, perhaps by an earlier start.
    """
    if newest is not None and is_same(header, newest):
        return False
    return not any(_is_older(header, one) for one in (newest, seen) if one is not None)


def _is_older(header: Header, known: Header) -> bool:
    """Whether a header was replaced by one that is known: it comes late, or is played again."""
    if header.signer != known.signer:  # nothing counts that was said with a former key
        return header.signer < known.signer
    if header.ledger == known.ledger:
        return header.age < known.age
    return header.founded < known.founded


def fault_of(header: Header, task: str, *, sealed: bool = False) -> str | None:
    """Why a version is not for a device with this task; its sizes, before room is made for them.

    Args:
        sealed: whether this device gives its updates away only sealed.
    """
    if header.task != task:
        return f"it is of the task {header.task}, ours is {task}"
    if sealed and len(header.seal) != SEALING_KEY_BYTES:
        return "it names no key to seal updates to"
    if header.plan.codec not in CODECS:
        return f"its updates are to be encoded as {header.plan.codec!r}, which is unknown here"
    try:
        expected = encoded_size(header.codec, Layout.from_wire(header.layout).size)
    except (CodecError, LayoutError) as error:
        return str(error)
    told = header.payload.size
    return None if told == expected else f"{told} bytes are told, {expected} are right"


def is_same(one: Header, other: Header) -> bool:
    """Whether two headers announce the same."""
    return one.ledger == other.ledger and one.age == other.age
