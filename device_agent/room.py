"""Room on the disk is asked for before it is needed: better no training than one in vain.

Where the file system cannot tell, nothing is asked, and the writes themselves will tell.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from federation.files import is_storage_full


def allot(path: Path, size: int) -> None:
    """Give the file `size` bytes of room for good; what it holds stays as it is.

    Raises:
        OSError: the disk is full.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    with path.open("r+b") as file:
        _see_free_blocks(file.fileno(), size)
        try:
            os.posix_fallocate(file.fileno(), 0, size)
        except OSError as error:
            if is_storage_full(error):
                raise


def _see_free_blocks(descriptor: int, size: int) -> None:
    """Refuse what is too large without trying: some file systems give all they have first."""
    disk = os.fstatvfs(descriptor)
    missing = size - 512 * os.fstat(descriptor).st_blocks
    if disk.f_blocks and missing > disk.f_bavail * disk.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def see_room_for(size: int, folder: Path) -> None:
    """See whether a folder has room for `size` bytes in new files.

    Raises:
        OSError: the disk is full.
    """
    probe = folder / "room.part"
    try:
        probe.touch()
        allot(probe, size)
    finally:
        probe.unlink(missing_ok=True)
