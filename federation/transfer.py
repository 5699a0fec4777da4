"""One payload over a link that loses, doubles and reorders: manifest, window, intake.

The receiver drives. It knows from the manifest which chunks there are and what digest each must
have; it asks for a few at a time, and what does not come it asks for again. The same intake
serves a device that fetches a model and a coordinator that takes in an update.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from math import inf

from federation.messages import DIGEST_BYTES, Manifest

TARGET_DELAY_S = 0.5


def chunk_digest(data: bytes | memoryview) -> bytes:
    """16 bytes of BLAKE2b (RFC 7693) over one chunk."""
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def manifest_of(payload: bytes | memoryview, chunk_bytes: int) -> Manifest:
    """Cut a payload into chunks of `chunk_bytes` and digest each."""
    view = memoryview(payload).cast("B")
    pieces = (view[at : at + chunk_bytes] for at in range(0, len(view), chunk_bytes))
    digests = b"".join(chunk_digest(piece) for piece in pieces)
    return Manifest(size=len(view), chunk_bytes=chunk_bytes, digests=digests)


class Window:
    """How many chunks may be under way, so that small messages still get through.

    A chunk's delay, from asking to arrival, is what any message behind it waits. The window grows
    by one chunk for each full window that came in well under `TARGET_DELAY_S` and shrinks when a
    chunk took longer (the idea of LEDBAT, RFC 6817, at chunk granularity); after a silence it
    starts anew.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._credit = float(min(2, maximum))

    @property
    def size(self) -> int:
        """Chunks that may be under way now: 1 to the maximum."""
        return int(self._credit)

    def arrived(self, delay_s: float) -> None:
        """Learn from one chunk that came `delay_s` after it was asked for."""
        if delay_s > TARGET_DELAY_S:
            self._credit = max(1.0, self._credit * 0.7)
        elif delay_s < TARGET_DELAY_S / 2:
            self._credit = min(float(self._maximum), self._credit + 1 / self._credit)

    def silent(self) -> None:
        """Nothing came: begin with the smallest window."""
        self._credit = 1.0


class Intake:
    """What has arrived of one payload, what was asked for, and what to ask for next."""

    def __init__(self, manifest: Manifest, held: Iterable[int], window: Window) -> None:
        self.manifest = manifest
        self.window = window
        self._missing = dict.fromkeys(range(manifest.count))
        for index in held:
            self._missing.pop(index, None)
        self._asked: dict[int, float] = {}

    @property
    def complete(self) -> bool:
        """Whether every chunk is here."""
        return not self._missing

    @property
    def fraction(self) -> float:
        """Share of the chunks that are here."""
        return 1 - len(self._missing) / self.manifest.count

    @property
    def under_way(self) -> tuple[int, ...]:
        """Chunks that were asked for and have not come, oldest first."""
        return tuple(self._asked)

    @property
    def oldest_ask_s(self) -> float:
        """When the longest awaited chunk was asked for; infinity if none is."""
        return min(self._asked.values(), default=inf)

    def ask(self, now_s: float) -> tuple[int, ...]:
        """The chunks to ask for now: as many as the window has room for, once half is free."""
        room = self.window.size - len(self._asked)
        if room < (self.window.size + 1) // 2:
            return ()
        chosen: list[int] = []
        for index in self._missing:
            if len(chosen) == room:
                break
            if index not in self._asked:
                chosen.append(index)
        self._asked.update(dict.fromkeys(chosen, now_s))
        return tuple(chosen)

    def accepts(self, index: int, data: bytes) -> bool:
        """Whether this is a chunk that is missing, whole and unaltered."""
        if index not in self._missing:
            return False
        start, end = self.manifest.extent(index)
        return len(data) == end - start and chunk_digest(data) == self.manifest.digest(index)

    def arrived(self, index: int, now_s: float) -> None:
        """Chunk `index` is stored."""
        del self._missing[index]
        asked_s = self._asked.pop(index, None)
        if asked_s is not None:
            self.window.arrived(now_s - asked_s)

    def overdue(self, now_s: float, patience_s: float) -> tuple[int, ...]:
        """Chunks that were asked for at least `patience_s` ago."""
        return tuple(i for i, asked_s in self._asked.items() if now_s - asked_s >= patience_s)

    def postpone(self, indices: Iterable[int], now_s: float) -> None:
        """These were asked for again just now."""
        for index in indices:
            if index in self._asked:
                self._asked[index] = now_s

    def forget_asked(self) -> None:
        """The link broke, or silence was long: nothing is under way any more."""
        self._asked.clear()
        self.window.silent()
