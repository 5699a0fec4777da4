"""How many bytes a vector takes in each codec: known before anything is allocated.

It stands apart from the codecs, as an agent checks sizes and never loads numpy.
"""

from __future__ import annotations

INT8_BLOCK = 256
SEAL_BLOCK = 64 * 1024
SEAL_HEAD = 80
SEAL_TAG = 16


class CodecError(ValueError):
    """A payload that its codec cannot have written, or a codec that nobody knows."""


def encoded_size(codec: str, d: int) -> int:
    """Bytes that d float32 elements take.

    Raises:
        CodecError: nobody knows this codec.
    """
    match codec:
        case "float32":
            return 4 * d
        case "int8":
            return 4 * int8_blocks(d) + d
    raise CodecError(f"unknown codec {codec!r}; known are: float32, int8")


def int8_blocks(d: int) -> int:
    """Blocks of 256 elements, the last one perhaps shorter; each has a scale of its own."""
    return -(-d // INT8_BLOCK)


def sealed_size(size: int) -> int:
    """Bytes that a payload of `size` bytes takes once it is sealed (`federation.sealing`)."""
    return SEAL_HEAD + size + SEAL_TAG * max(1, -(-size // SEAL_BLOCK))
