"""One payload over a link that loses, doubles and reorders: manifest, window, intake.

The receiver drives. It knows from the manifest which chunks there are and what digest each must
have; it asks for a few at a time, and what does not come it asks for again. The same intake
serves a device that fetches a model and a coordinator that takes in an update.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import inf
from pathlib import Path

from blake3 import blake3

from federation.messages import DIGEST_BYTES, Manifest
from federation.session import HIGH_WATER_BYTES

TARGET_DELAY_S = 0.5


def chunk_digest(data: bytes | memoryview) -> bytes:
    """16 bytes of BLAKE3 (O'Connor et al. 2020) over one chunk."""
    return blake3(data).digest(length=DIGEST_BYTES)


def manifest_of(payload: bytes | memoryview, chunk_bytes: int) -> Manifest:
    """Cut a payload into chunks of `chunk_bytes` and digest each."""
    view = memoryview(payload).cast("B")
    pieces = (view[at : at + chunk_bytes] for at in range(0, len(view), chunk_bytes))
    digests = b"".join(chunk_digest(piece) for piece in pieces)
    return Manifest(size=len(view), chunk_bytes=chunk_bytes, digests=digests)


def manifest_of_file(path: Path, chunk_bytes: int) -> Manifest:
    """As `manifest_of`, with no more than a chunk of the payload in memory."""
    with path.open("rb") as file:
        pieces = iter(lambda: file.read(chunk_bytes), b"")
        digests = b"".join(chunk_digest(piece) for piece in pieces)
    return Manifest(size=path.stat().st_size, chunk_bytes=chunk_bytes, digests=digests)


def held_chunks(path: Path, manifest: Manifest) -> frozenset[int]:
    """The chunks of a payload that a file holds whole and unaltered, by their digests."""
    with path.open("rb") as file:
        return frozenset(
            index
            for index in range(manifest.count)
            if chunk_digest(file.read(manifest.chunk_bytes)) == manifest.digest(index)
        )


class Window:
    """How many chunks may be under way, so that small messages still get through.

    A chunk's delay, from asking to arrival, is what any message behind it waits. The window doubles
    until a chunk takes half of `TARGET_DELAY_S` for the first time, as what is asked for next then
    takes the whole of it at most. From then on it grows by one chunk for each full window that came
    in well under the target, and shrinks when a chunk took longer (the idea of LEDBAT, RFC 6817, at
    chunk granularity); after a silence it starts anew, and with care.
    """

    def __init__(self, maximum: int) -> None:
        self._maximum = maximum
        self._credit = float(min(2, maximum))
        self._is_fast = True

    @property
    def size(self) -> int:
        """Chunks that may be under way now: 1 to the maximum."""
        return int(self._credit)

    def arrived(self, delay_s: float) -> None:
        """Learn from one chunk that came `delay_s` after it was asked for."""
        if delay_s < TARGET_DELAY_S / 2:
            more = 1.0 if self._is_fast else 1 / self._credit
            self._credit = min(float(self._maximum), self._credit + more)
            return
        self._is_fast = False
        if delay_s > TARGET_DELAY_S:
            self._credit = max(1.0, self._credit * 0.7)

    def silent(self) -> None:
        """Nothing came: begin with the smallest window."""
        self._credit = 1.0
        self._is_fast = False


def window_for(manifest: Manifest, most_chunks: int) -> Window:
    """A new window, of no more bytes than a sender takes in without dropping some."""
    return Window(max(1, min(most_chunks, HIGH_WATER_BYTES // manifest.chunk_bytes)))


@dataclass(slots=True)
class _Ask:
    first_s: float
    last_s: float


class Intake:
    """What has arrived of one payload, what was asked for, and what to ask for next.

    A chunk that was asked for twice does not tell which asking it answers, so no delay is learned
    from it (Karn's algorithm, RFC 6298) unless none is known yet: then the longest it can be.
    """

    def __init__(self, manifest: Manifest, held: Iterable[int], window: Window) -> None:
        self.manifest = manifest
        self.window = window
        self._missing = dict.fromkeys(range(manifest.count))
        for index in held:
            self._missing.pop(index, None)
        self._asked: dict[int, _Ask] = {}
        self._delay_s: float | None = None
        self._measured = False

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
        return min((ask.last_s for ask in self._asked.values()), default=inf)

    @property
    def delay_s(self) -> float:
        """What a chunk takes from asking to arrival; 0 while nothing is known."""
        return self._delay_s or 0.0

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
        self._asked.update((index, _Ask(now_s, now_s)) for index in chosen)
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
        ask = self._asked.pop(index, None)
        if ask is None:
            return
        delay_s = now_s - ask.first_s
        if ask.first_s == ask.last_s:
            self.window.arrived(delay_s)
            known_s = self._delay_s if self._measured and self._delay_s is not None else delay_s
            self._delay_s = known_s + (delay_s - known_s) / 4
            self._measured = True
        elif not self._measured and now_s - ask.last_s > TARGET_DELAY_S:
            self._delay_s = delay_s  # not right after the second asking: it may answer the first

    def overdue(self, now_s: float, patience_s: float) -> tuple[int, ...]:
        """Chunks that were asked for at least `patience_s` ago."""
        return tuple(i for i, ask in self._asked.items() if ask.last_s + patience_s <= now_s)

    def postpone(self, indices: Iterable[int], now_s: float) -> None:
        """These were asked for again just now."""
        for index in indices:
            if index in self._asked:
                self._asked[index].last_s = now_s

    def ask_elsewhere(self, index: int, now_s: float) -> None:
        """The first asking was answered in vain: only the one of just now counts."""
        if index in self._asked:
            self._asked[index] = _Ask(now_s, now_s)

    def asked_once(self, index: int) -> bool:
        """Whether this chunk is under way and was asked for only once."""
        ask = self._asked.get(index)
        return ask is not None and ask.first_s == ask.last_s

    def forget_asked(self, now_s: float = inf, older_s: float = 0.0) -> None:
        """What was asked for that long ago is under way no more: the link broke, or lost it."""
        gone = self.overdue(now_s, older_s)
        for index in gone:
            del self._asked[index]
        if gone or now_s == inf:
            self.window.silent()
