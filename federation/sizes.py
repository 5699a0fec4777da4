"""How many bytes a vector takes in each codec: known before anything is allocated.

It stands apart from the codecs, as an agent checks sizes and never loads numpy.
"""

from __future__ import annotations

PLAIN_CODECS = ("float32", "bf16", "int8", "int4", "topk")
# What may be wrapped around which of them, where it pays.
ZLIB = "+zlib"
CODECS = (*PLAIN_CODECS, "int8" + ZLIB, "int4" + ZLIB)
# Elements that are worked on at a time by whoever has no room for all: ranges begin at multiples.
RANGE = 65536
INT8_BLOCK = 256
INT4_BLOCK = 128
TOPK_BLOCK = 256
TOPK_ONE_IN = 32
SEAL_BLOCK = 64 * 1024
SEAL_HEAD = 80
SEAL_TAG = 16


class CodecError(ValueError):
    """A payload that its codec cannot have written, or a codec that nobody knows."""


def encoded_size(codec: str, d: int) -> int:
    """Bytes that d float32 elements take in a plain codec.

    Raises:
        CodecError: nobody knows this codec, or its sizes are only bounded.
    """
    match codec:
        case "float32":
            return 4 * d
        case "bf16":
            return 2 * d
        case "int8":
            return 4 * blocks_of(d, INT8_BLOCK) + d
        case "int4":
            return 2 * blocks_of(d, INT4_BLOCK) + blocks_of(d, 2)
        case "topk":
            k = topk_kept(d)
            return 2 * blocks_of(d, TOPK_BLOCK) + k + encoded_size("int4", k)
    if codec in CODECS:
        raise CodecError(f"{codec} has no size that is known beforehand")
    raise CodecError(f"unknown codec {codec!r}; known are: {', '.join(CODECS)}")


def size_bounds(codec: str, d: int) -> tuple[int, int]:
    """The fewest and the most bytes that d float32 elements take; one size, in a plain codec.

    Raises:
        CodecError: nobody knows this codec.
    """
    if codec not in CODECS or codec == plain(codec):
        size = encoded_size(codec, d)
        return size, size
    # What does not compress grows by one in 1,000 at most; with some room for another zlib.
    size = encoded_size(plain(codec), d)
    return 1, size + size // 100 + 64


def topk_kept(d: int) -> int:
    """How many of d elements `topk` sends."""
    return blocks_of(d, TOPK_ONE_IN)


def plain(codec: str) -> str:
    """The codec below what is wrapped around it: "int8" of "int8+zlib"."""
    return codec.partition("+")[0]


def blocks_of(d: int, block: int) -> int:
    """Blocks of so many elements that d take, the last one perhaps shorter."""
    return -(-d // block)


def sealed_size(size: int) -> int:
    """Bytes that a payload of `size` bytes takes once it is sealed (`federation.sealing`)."""
    return SEAL_HEAD + size + SEAL_TAG * max(1, -(-size // SEAL_BLOCK))
