"""What a power cut may take besides the process: all that was not forced to disk.

`Volatile` watches a role's calls (`tests/crashing_role.py`) and knows at each moment what POSIX
does not promise: bytes written since the last fsync of their file; files made, renamed or deleted
since the last fsync of their directory. As the role is killed it writes that down, and `lose` makes
it come true: such bytes are zeros, such names are as they were. SQLite looks after its own files.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAME = "lost.json"


class Volatile:
    """What is not on disk yet, of all the files under a directory."""

    def __init__(self, directory: Path) -> None:
        self._notes = directory / NAME
        self._kept = directory / "kept"
        self._kept.mkdir(exist_ok=True)
        self._bytes: dict[str, list[tuple[int, int]]] = {}
        self._names: dict[str, list[tuple[str, str | None]]] = {}
        self._lock = threading.Lock()
        self._number = len(list(self._kept.iterdir()))

    def before(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Keep what a call is about to replace or delete."""
        owner: Any = getattr(call, "__self__", None)
        with self._lock:
            match call.__name__:
                case "open" if isinstance(owner, Path) and not owner.exists():
                    self._will_be(owner)
                case "touch" if isinstance(owner, Path) and not owner.exists():
                    self._will_be(owner)
                case "unlink" if isinstance(owner, Path) and owner.exists():
                    self._will_be(owner)
                case "replace" if isinstance(owner, Path):
                    self._will_be(Path(args[0]))
                    self._bytes[str(args[0])] = self._bytes.pop(str(owner), [])
                case "write" if hasattr(owner, "fileno"):
                    start = owner.tell() if owner.seekable() else 0
                    self._dirty(owner.name, start, len(args[0]))

    def after(self, call: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Note what a call has made durable."""
        if call is os.fsync:
            path = str(Path(f"/proc/self/fd/{args[0]}").readlink())
            with self._lock:
                self._bytes.pop(path, None)
                self._names.pop(path, None)

    def killed(self) -> None:
        """Write down what is lost."""
        notes = {"bytes": self._bytes, "names": self._names}
        self._notes.write_text(json.dumps(notes))

    def _will_be(self, path: Path) -> None:
        """The name is about to mean something else: keep what it means now."""
        kept = None
        if path.exists():
            self._number += 1
            kept = str(self._kept / f"{os.getpid()}.{self._number}")
            os.link(path, kept)
        self._names.setdefault(str(path.parent), []).append((str(path), kept))

    def _dirty(self, path: str, start: int, size: int) -> None:
        self._bytes.setdefault(path, []).append((start, size))


def lose(directory: Path) -> int:
    """Have happen what `killed` wrote down; how many writes and names were lost."""
    notes = json.loads((directory / NAME).read_text())
    for path, ranges in notes["bytes"].items():
        if Path(path).exists():
            with Path(path).open("r+b") as file:
                size = os.fstat(file.fileno()).st_size
                for start, length in ranges:
                    file.seek(start)
                    file.write(bytes(max(0, min(length, size - start))))
    for changes in notes["names"].values():
        for path, kept in reversed(changes):
            Path(path).unlink(missing_ok=True)
            if kept is not None:
                shutil.copyfile(kept, path)
    return sum(map(len, notes["bytes"].values())) + sum(map(len, notes["names"].values()))
