"""A disk of its own for one role: the kernel then counts what reaches it, journal and all."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SECTOR_BYTES = 512
SIZE_BYTES = 256 * 2**20


class Disk:
    """A file system ext4 in a file, mounted."""

    def __init__(self, folder: Path, device: Path | None) -> None:
        self.folder = folder
        self._stat = None if device is None else Path("/sys/block") / device.name / "stat"

    def written_bytes(self) -> int | None:
        """What has reached it, once all that waits is written; None where nobody counts."""
        if self._stat is None:
            return None
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        subprocess.run(["sync", "--file-system", str(self.folder)], check=True)
        return int(self._stat.read_text().split()[6]) * SECTOR_BYTES


@contextmanager
def a_disk(folder: Path) -> Iterator[Disk]:
    """A disk of 256 MiB at `folder`; a plain folder where none can be mounted."""
    folder.mkdir()
    image = folder.with_name(f"{folder.name}.image")
    with image.open("wb") as file:
        file.truncate(SIZE_BYTES)
    mounted = _runs("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
    mounted = mounted and _runs("mount", "-o", "loop,noatime", image, folder)
    try:
        yield Disk(folder, _device_of(folder) if mounted else None)
    finally:
        if mounted:
            _runs("umount", folder)
        image.unlink()


def _runs(*words: str | Path) -> bool:
    try:
        return subprocess.run(words, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


def _device_of(folder: Path) -> Path:
    found = subprocess.run(
        ["findmnt", "--noheadings", "--output", "SOURCE", str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return Path(found.stdout.strip())
