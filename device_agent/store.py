"""The version that a device fetches: one file, and what it holds is told by its digests."""

from __future__ import annotations

import os
from pathlib import Path

from federation.messages import Header
from federation.transfer import chunk_digest


class Store:
    """The folder of the fetched version; one at a time, as a device works on one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, header: Header) -> Path:
        """The file of a version's payload; the name tells ledger and version."""
        return self._folder / f"{header.ledger.hex()}.{header.version}"

    def prepare(self, header: Header) -> frozenset[int]:
        """Make room for a version and delete others; the chunks of it that are there already."""
        path, manifest = self.path(header), header.payload
        for other in self._folder.iterdir():
            if other != path:
                other.unlink()
        if not path.exists():
            path.touch(mode=0o600)
        if path.stat().st_size != manifest.size:
            os.truncate(path, manifest.size)
            return frozenset()
        with path.open("rb") as file:
            return frozenset(
                index
                for index in range(manifest.count)
                if chunk_digest(file.read(manifest.chunk_bytes)) == manifest.digest(index)
            )

    def write(self, header: Header, index: int, data: bytes) -> None:
        """Keep one verified chunk. A crash may lose it: then it is fetched again."""
        start, _ = header.payload.extent(index)
        with self.path(header).open("r+b") as file:
            file.seek(start)
            file.write(data)
