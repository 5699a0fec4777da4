"""The spool: uploads on disk as they arrive, each a file of its own that knows nothing.

What a file holds is found out by digesting it against the manifest of the offer, so a broken
upload needs no record of its progress and no file stays open between two chunks.
"""

from __future__ import annotations

import os
from pathlib import Path

from coordinator.vocabulary import UpdateId
from federation.files import sync_directory
from federation.messages import Manifest
from federation.transfer import held_chunks


class Spool:
    """The folder of uploads: partial ones, and complete ones that wait for their version."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, id: UpdateId) -> Path:
        """The file of an update; the name tells device, outbox and sequence."""
        return self._folder / f"{id.device}.{id.outbox.hex()}.{id.sequence}"

    def open(self, id: UpdateId, manifest: Manifest) -> frozenset[int]:
        """Make room for an upload; the chunks of it that are there already, by their digests."""
        path = self.path(id)
        if not path.exists():
            path.touch(mode=0o600)
            os.truncate(path, manifest.size)
            return frozenset()
        if path.stat().st_size != manifest.size:
            os.truncate(path, manifest.size)
        return held_chunks(path, manifest)

    def write(self, id: UpdateId, offset: int, data: bytes) -> None:
        """Keep one chunk."""
        # Buffered, as a bare write may keep only a part of the chunk and not say so.
        with self.path(id).open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def sync(self, id: UpdateId) -> None:
        """Force a complete upload to disk."""
        descriptor = os.open(self.path(id), os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(self._folder)

    def drop(self, id: UpdateId) -> None:
        """Forget an upload."""
        self.path(id).unlink(missing_ok=True)
