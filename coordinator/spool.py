"""The spool: uploads on disk as they arrive, each a file of its own that knows nothing.

What a file holds is found out by digesting it against the manifest of the offer, so a broken
upload needs no record of its progress and no file stays open between two chunks.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

from coordinator.vocabulary import UpdateId
from federation.files import sync_directory
from federation.messages import Manifest
from federation.topics import ID_PATTERN
from federation.transfer import held_chunks

_NAME = re.compile(rf"({ID_PATTERN})\.([0-9a-f]{{16}})\.([0-9]+)")
_BLOCK_BYTES = 512


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

    def sync(self, ids: Iterable[UpdateId]) -> None:
        """Force complete uploads to disk."""
        for id in ids:
            descriptor = os.open(self.path(id), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        sync_directory(self._folder)

    def replace(self, id: UpdateId, payload: Iterable[bytes]) -> None:
        """Put what was sealed in the place of the sealed upload; `sync` makes it durable.

        It may be read of the very file meanwhile, by whoever is always ahead of what he gives.

        What a crash leaves of it is no chunk of the upload, and is asked for again.
        """
        with self.path(id).open("r+b") as file:
            for block in payload:
                file.write(block)
            file.truncate()

    def drop(self, id: UpdateId) -> None:
        """Forget an upload."""
        self.path(id).unlink(missing_ok=True)

    def sweep(
        self,
        busy: Collection[UpdateId],
        is_accepted: Callable[[UpdateId], bool],
        quota_bytes: int,
        keep_s: float,
    ) -> int:
        """Delete unfinished uploads that nothing came of for too long, then the oldest over quota.

        Args:
            busy: the uploads under way; they are not deleted.
            is_accepted: whether an update is in the ledger: then it is no unfinished one.
            quota_bytes: what unfinished uploads may take on disk, those under way included.
            keep_s: how long one is kept after its last chunk, in seconds of this machine's clock.

        Returns:
            How many were deleted. What is deleted by mistake costs its device another upload.
        """
        oldest_s = time.time() - keep_s
        deleted = used_bytes = 0
        found = self._unfinished(is_accepted)
        for id, stat in sorted(found, key=lambda one: (one[0] not in busy, -one[1].st_mtime)):
            used_bytes += stat.st_blocks * _BLOCK_BYTES
            if id not in busy and (stat.st_mtime < oldest_s or used_bytes > quota_bytes):
                used_bytes -= stat.st_blocks * _BLOCK_BYTES
                self.drop(id)
                deleted += 1
        return deleted

    def _unfinished(
        self, is_accepted: Callable[[UpdateId], bool]
    ) -> list[tuple[UpdateId, os.stat_result]]:
        found = []
        for entry in os.scandir(self._folder):
            if name := _NAME.fullmatch(entry.name):
                id = UpdateId(name[1], bytes.fromhex(name[2]), int(name[3]))
                if not is_accepted(id):
                    found.append((id, entry.stat()))
        return found
