"""Long vectors in ranges, on all cores: each is worked on while it lies in a processor's cache.

A range is done by one thread, from its first update to its last; so what comes out is the same
bits, whatever the number of threads and whoever was first. numpy lets go of the interpreter's lock
while it is at a range.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Protocol

from federation.compression import RANGE, Bytes, Vector, decode_range, plain
from federation.sizes import CodecError, encoded_size

# How many updates are read side by side. Each holds 1 / (2 AT_ONCE) of its pages and what the
# kernel maps at once, which may be 2 MiB: all of them together about the size of one, or 16 MiB.
AT_ONCE = 8
# What a thread works on at a time. Less would have threads wait for the interpreter's lock.
STRIDE = 2 * RANGE


class Source(Protocol):
    """What gives a vector by its ranges, from a multiple of RANGE on; a vector itself does."""

    def __getitem__(self, where: slice, /) -> Vector:
        """Elements where.start to where.stop, Float32; not to be changed."""


class Encoded:
    """A vector Float32[d] in the bytes of a codec; each range is decoded when it is asked for."""

    def __init__(self, codec: str, payload: Bytes, d: int) -> None:
        """Begin.

        Args:
            codec: a plain one.

        Raises:
            CodecError: unknown codec, or bytes of another size than that of d elements.
        """
        size, expected = memoryview(payload).nbytes, encoded_size(codec, d)
        if size != expected:
            raise CodecError(f"{codec}: {d} elements are {expected} bytes, not {size}")
        self._codec = codec
        self._payload = payload
        self._d = d
        # What needs no decoding is only looked at, and that once.
        self._plain = decode_range(codec, payload, d, 0, d) if codec == "float32" else None

    def __getitem__(self, where: slice, /) -> Vector:
        if self._plain is not None:
            return self._plain[where]
        return decode_range(self._codec, self._payload, self._d, where.start, where.stop)


class Mapped(Encoded):
    """The same of a file: its pages are the kernel's own, and only a few of them are held.

    Pages that are mapped count as this process's memory though the kernel may take them at any
    time; so they are let go again and again. One that another thread still reads comes back.
    """

    def __init__(self, path: Path, codec: str, d: int) -> None:
        """Begin.

        Raises:
            OSError: no such file, or it cannot be read.
            CodecError: as for `Encoded`.
        """
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            self._pages = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else None
        super().__init__(plain(codec), memoryview(self._pages or b""), d)
        self._often = max(1, d // STRIDE // (2 * AT_ONCE))
        self._given = 0

    def __getitem__(self, where: slice, /) -> Vector:
        if self._given >= self._often and self._pages is not None:
            self._pages.madvise(mmap.MADV_DONTNEED)
            self._given = 0
        self._given += 1
        return super().__getitem__(where)


def cores() -> int:
    """The cores that this process may use: what `taskset` or systemd's CPUAffinity leaves it."""
    return len(os.sched_getaffinity(0))


def by_ranges(d: int, work: Callable[[slice], None], threads: int | None = None) -> None:
    """Do `work` on each range of `STRIDE` elements of d, in any order.

    Args:
        threads: how many ranges are worked on at once; a core each if none. A vector of one range
            takes no thread.
    """
    starts = iter(range(0, d, STRIDE))

    def some() -> None:
        for start in starts:
            work(slice(start, min(start + STRIDE, d)))

    others = min(threads or cores(), -(-d // STRIDE)) - 1
    if others < 1:
        some()
        return
    with ThreadPoolExecutor(others, thread_name_prefix="ranges") as pool:
        # numpy's settings for floating point go with the context.
        helpers = [pool.submit(copy_context().run, some) for _ in range(others)]
        some()
        for helper in helpers:
            helper.result()
