"""A disk of a few MiB, to be filled and freed: a tmpfs, where the machine lets tests mount one."""

from __future__ import annotations

import errno
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BLOCK_BYTES = 4096


class SmallDisk:
    """One mounted disk."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    def fill(self, leave_bytes: int = 0) -> None:
        """Take all room but for so much (in whole blocks)."""
        with self._ballast.open("ab", buffering=0) as file:
            for block in (bytes(1 << 16), bytes(BLOCK_BYTES)):
                try:
                    while True:
                        file.write(block)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
            size = self._ballast.stat().st_size
            file.truncate(max(0, size - leave_bytes))

    def free(self) -> None:
        """Give the room back."""
        self._ballast.unlink(missing_ok=True)


@contextmanager
def a_small_disk(path: Path, kib: int, options: str = "") -> Iterator[SmallDisk]:
    """A disk of so many KiB; skips the test where none can be mounted."""
    path.mkdir()
    sizes = f"size={kib}k{',' + options if options else ''}"
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", sizes, "tmpfs", str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
