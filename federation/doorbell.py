"""What another thread rings so that a thread wakes that waits in `select`."""

from __future__ import annotations

import socket
from contextlib import suppress
from types import TracebackType
from typing import Self


class Doorbell:
    """A pair of sockets; while it rings already, ringing costs nothing."""

    def __init__(self) -> None:
        self._rings = False
        self._inside, self._outside = socket.socketpair()
        for end in (self._inside, self._outside):
            end.setblocking(False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._inside.close()
        self._outside.close()

    def fileno(self) -> int:
        """For select."""
        return self._inside.fileno()

    def ring(self) -> None:
        """Wake the thread that waits; from any thread, after what it is to see was done."""
        if not self._rings:
            self._rings = True
            with suppress(OSError):  # nobody waits any more
                self._outside.send(b"-")

    def answer(self) -> None:
        """Let it ring anew; by the thread that waits, before it looks what there is to see."""
        self._inside.recv(64)
        self._rings = False
