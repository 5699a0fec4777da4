"""Bytes to be decoded: valid ones that were damaged, and ones that are right but for their content.

All of it is a function of a `Random`. Handed an ordinary one it makes ten thousand cases in a
second; handed one of hypothesis's, whatever fails is made as small as it can be.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, TypeAlias

import msgpack

Maker: TypeAlias = Callable[[Random], bytes]

LARGEST_EDIT = 64
MOST_EDITS = 5
# What length fields are made of: limits of the types, and of what decoders allow.
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**20, 2**31 - 1, 2**31, 2**32 - 1, 2**63)
# Heads of msgpack that claim much: array32, map32, str32, bin32, ext32 of 4,294,967,295.
CLAIMS = tuple(bytes([kind]) + b"\xff" * 4 for kind in (0xDD, 0xDF, 0xDB, 0xC6, 0xC9))
TOKENS = (
    *CLAIMS,
    *(b"\x00", b"\xff", b"\n", b'"', b"'", b"[", b"]", b"{", b"}", b"=", b",", b"."),
    *(
        b"9" * 30,
        b"1e999",
        b"-1",
        b"null",
        b"true",
        b"NaN",
        b"\xed\xa0\x80",
        b"\\ud800",
        b"[" * 999,
    ),
)
TEXTS = ("", "one", "none", "\0", "\ud800", "é" * 300, "a" * 5000, "9" * 400, "-----BEGIN", "../x")
_INTEGERS = (0, -1, 1, 2**31, 2**53, 2**63 - 1, -(2**63), 2**64 - 1)
_FLOATS = (0.0, -0.0, 1.5, float("inf"), float("nan"), 1e308, 5e-324)


def damaged(chance: Random, specimens: Sequence[bytes]) -> bytes:
    """A specimen with a few edits: flipped bits, cuts, repetitions, splices, false lengths."""
    data = chance.choice(specimens)
    for _ in range(chance.randint(1, MOST_EDITS)):
        at, span = chance.randint(0, len(data)), chance.randint(0, LARGEST_EDIT)
        match chance.randint(0, 8):
            case 0 | 1 if at < len(data):
                data = data[:at] + bytes([data[at] ^ 1 << chance.randint(0, 7)]) + data[at + 1 :]
            case 2:
                data = data[:at]
            case 3:
                data = data[:at] + data[at + span :]
            case 4:
                data = data[:at] + data[at : at + span] * chance.randint(2, 20) + data[at:]
            case 5:
                data = data[:at] + chance.randbytes(span) + data[at + span * chance.randint(0, 1) :]
            case 6:
                data = data[:at] + chance.choice(TOKENS) + data[at:]
            case 7:
                other = chance.choice(specimens)
                data = data[:at] + other[chance.randint(0, len(other)) :]
            case _:
                number, size = chance.choice(NUMBERS), chance.choice((1, 2, 4, 8))
                order: Any = chance.choice(("little", "big"))
                field = (number % 256**size).to_bytes(size, order)
                data = data[:at] + field + data[at + size :]
    return data


def noise(chance: Random) -> bytes:
    """Bytes of no grammar."""
    return chance.randbytes(chance.randint(0, 300))


def tree(chance: Random, depth: int = 4, *, of_bytes: bool = True) -> Any:
    """Any value that msgpack, or without bytes JSON, can carry."""
    kind = chance.randint(0, 8 if depth else 6)
    match kind:
        case 0:
            return chance.choice((None, True, False))
        case 1:
            return chance.choice(_INTEGERS) if chance.randint(0, 1) else chance.randint(-99, 999)
        case 2:
            return chance.choice(_FLOATS)
        case 3 | 4:
            return chance.choice(TEXTS)
        case 5 | 6:
            size = chance.choice((0, 1, 8, 16, 32, 33, 64, 300))
            return chance.randbytes(size) if of_bytes else "QUJD" * (size // 4)
        case 7:
            inner = range(chance.randint(0, 6))
            return [tree(chance, depth - 1, of_bytes=of_bytes) for _ in inner]
    names = [text[:300] for text in chance.choices(TEXTS, k=chance.randint(0, 6))]
    return {name: tree(chance, depth - 1, of_bytes=of_bytes) for name in names}


def any_msgpack(chance: Random) -> bytes:
    """A msgpack value of any shape."""
    return _as_msgpack(tree(chance))


def any_json(chance: Random) -> bytes:
    """A JSON value of any shape."""
    return _as_json(tree(chance, of_bytes=False))


def wrong_msgpack(*wholes: dict[str, Any]) -> Maker:
    """Maps that are right but for a few of their fields, anywhere in them."""
    return lambda chance: _as_msgpack(_wrong(chance, chance.choice(wholes), of_bytes=True))


def wrong_json(*wholes: dict[str, Any]) -> Maker:
    """As `wrong_msgpack`, in JSON."""
    return lambda chance: _as_json(_wrong(chance, chance.choice(wholes), of_bytes=False))


def case(chance: Random, specimens: Sequence[bytes], more: Sequence[Maker]) -> bytes:
    """Half of them damaged specimens; the rest bytes of no grammar, and what the target adds."""
    kind = chance.randint(0, 7)
    if kind < 4 or (kind < 7 and not more):
        return damaged(chance, specimens)
    return chance.choice(more)(chance) if kind < 7 else noise(chance)


def _wrong(chance: Random, whole: dict[str, Any], *, of_bytes: bool) -> dict[str, Any]:
    fields = dict(whole)
    for _ in range(chance.randint(1, 3)):
        inner = fields
        while True:
            name = chance.choice((*inner, "extra"))
            if not isinstance(inner.get(name), dict) or chance.randint(0, 2) == 0:
                break
            inner[name] = dict(inner[name])
            inner = inner[name]
        if chance.randint(0, 3) == 0:
            inner.pop(name, None)
        else:
            inner[name] = tree(chance, 2, of_bytes=of_bytes)
    return fields


def _as_msgpack(value: Any) -> bytes:
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def _as_json(value: Any) -> bytes:
    return json.dumps(value).encode()
