"""The version that a device fetches: one file, and what it holds is told by its digests.

Its header lies beside it, so that an agent that starts without a link can train on what it has;
and so does the training under way. It outlives the version: what is saved there says what it is
about, so one that is about another version counts as none and is overwritten.

A version gets its room before its first chunk is fetched, so that a disk that is too small is found
out before megabytes have moved.
"""

from __future__ import annotations

import os
from pathlib import Path

from device_agent.room import allot
from federation.files import is_storage_full, replace_file
from federation.messages import Header, MessageError, decode, encode
from federation.transfer import held_chunks


class Store:
    """The folder of the fetched version; one at a time, as a device works on one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._header = folder / "header"
        self.checkpoint = folder / "training"

    def path(self, header: Header) -> Path:
        """The file of a version's payload; the name tells ledger and version."""
        return self._folder / f"{header.ledger.hex()}.{header.version}"

    def prepare(self, header: Header) -> frozenset[int]:
        """Make room for a version and delete others; the chunks of it that are there already.

        Raises:
            OSError: the disk is full; the chunks that are there stay.
        """
        path, manifest = self.path(header), header.payload
        for other in self._folder.iterdir():
            if other not in (path, self.checkpoint, self._header):
                other.unlink()
        is_new = not path.exists()
        if is_new:
            path.touch(mode=0o600)
        if path.stat().st_size != manifest.size:
            os.truncate(path, manifest.size)
        held = frozenset[int]() if is_new else held_chunks(path, manifest)
        if len(held) < manifest.count:
            self.forget_training()  # it is about another version: this one was never whole
        try:
            allot(path, manifest.size)
        except OSError as error:
            if is_storage_full(error) and not held:
                path.unlink()  # some file systems keep what they could give
            raise
        self._remember(header)
        return held

    def forget_training(self) -> None:
        """The training under way is done, or given up: what was saved of it is not needed."""
        self.checkpoint.unlink(missing_ok=True)

    def seen(self) -> Header | None:
        """The last version that was begun to be fetched, if it can be read."""
        try:
            header = decode(self._header.read_bytes())
        except (OSError, MessageError):
            return None
        return header if isinstance(header, Header) else None

    def remembered(self) -> Header | None:
        """The version that lies here whole, if one does."""
        if (header := self.seen()) is None:
            return None
        try:
            held = held_chunks(self.path(header), header.payload)
        except OSError:
            return None
        return header if len(held) == header.payload.count else None

    def begun(self, remembered: Header | None) -> Header | None:
        """What is remembered, if a training on it was saved and is not done or given up."""
        return remembered if self.checkpoint.exists() else None

    def _remember(self, header: Header) -> None:
        told = encode(header)
        # Without a word that is new, no room is needed.
        if not self._header.exists() or self._header.read_bytes() != told:
            replace_file(self._header, told)

    def write(self, header: Header, index: int, data: bytes) -> None:
        """Keep one verified chunk. A crash may lose it: then it is fetched again."""
        start, _ = header.payload.extent(index)
        with self.path(header).open("r+b") as file:
            file.seek(start)
            file.write(data)
