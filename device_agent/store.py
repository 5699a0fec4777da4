"""The version that a device fetches: one file, and what it holds is told by its digests.

Its header lies beside it, so that an agent that starts without a link can train on what it has;
and so does the training under way. It outlives the version: what is saved there says what it is
about, so one that is about another version counts as none and is overwritten.
"""

from __future__ import annotations

import os
from pathlib import Path

from federation.files import replace_file
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
        """Make room for a version and delete others; the chunks of it that are there already."""
        path, manifest = self.path(header), header.payload
        for other in self._folder.iterdir():
            if other not in (path, self.checkpoint):
                other.unlink()
        if not path.exists():
            path.touch(mode=0o600)
        if path.stat().st_size != manifest.size:
            os.truncate(path, manifest.size)
        replace_file(self._header, encode(header))
        return held_chunks(self.path(header), header.payload)

    def remembered(self) -> Header | None:
        """The version that lies here whole, if one does."""
        try:
            header = decode(self._header.read_bytes())
            if not isinstance(header, Header):
                return None
            held = held_chunks(self.path(header), header.payload)
        except (OSError, MessageError):
            return None
        return header if len(held) == header.payload.count else None

    def write(self, header: Header, index: int, data: bytes) -> None:
        """Keep one verified chunk. A crash may lose it: then it is fetched again."""
        start, _ = header.payload.extent(index)
        with self.path(header).open("r+b") as file:
            file.seek(start)
            file.write(data)
