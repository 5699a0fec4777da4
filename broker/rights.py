"""Mosquitto's access list, made from the table of rights: who may write and read which topics.

A pattern holds for every client; %u is its user name, which is the name in its certificate. So the
coordinator too may ask for a certificate under its own name. What no line allows is denied.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from federation import topics
from federation.certificates import AUTHORITY_NAME, COORDINATOR_NAME
from federation.topics import Right, Role, Topics

_HEAD = """\
# Made by Flockwise from its table of rights. What no line here allows is denied.
"""
_NAMES = {Role.COORDINATOR: COORDINATOR_NAME, Role.AUTHORITY: AUTHORITY_NAME}
_DEVICES = frozenset({Role.THE_DEVICE, Role.EVERY_DEVICE})


def access_list(federation: Topics, revoked: Iterable[str] = ()) -> str:
    """The text of the file for one federation; the revoked may do nothing."""
    text = _HEAD
    for role, name in _NAMES.items():
        text += f"\nuser {name}\n" + "".join(_lines("topic", role, federation))
    text += "\n# Each device: %u is its name.\n"
    text += "".join(_patterns(federation))
    if revoked := sorted(revoked):
        text += "\n# Revoked.\n"
        text += "".join(f"user {device}\ntopic deny {federation.root}#\n" for device in revoked)
    return text


def _lines(word: str, role: Role, federation: Topics) -> Iterator[str]:
    for right in topics.RIGHTS:
        form = federation.root + _filter(right, "+")
        if right.writer is role:
            yield f"{word} write {form}\n"
        if role in right.readers:
            yield f"{word} read {form}\n"


def _patterns(federation: Topics) -> Iterator[str]:
    for right in topics.RIGHTS:
        form = federation.root + _filter(right, "%u")
        if right.writer is Role.THE_DEVICE:
            yield f"pattern write {form}\n"
        if right.readers & _DEVICES:
            yield f"pattern read {form}\n"


def _filter(right: Right, device: str) -> str:
    form = right.place.value.replace("{slot}", "+").replace("{index}", "+")
    return form.replace("{device}", device)
