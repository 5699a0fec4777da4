"""What the kernel is told about a connection, and what it knows of it."""

from __future__ import annotations

import socket
import sys
from typing import Any

try:
    import fcntl
    import termios
except ImportError:  # not a Unix: it does not tell
    fcntl = termios = None  # type: ignore[assignment]


def send_at_once(link: Any) -> None:
    """Let no small message wait for the acknowledgement of the last one: 40 ms."""
    link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def unacknowledged_bytes(link: Any) -> int:
    """Bytes that were sent and that the other end does not have yet; 0 where nobody knows."""
    if fcntl is None:
        return 0
    return int.from_bytes(fcntl.ioctl(link, termios.TIOCOUTQ, bytes(4)), sys.byteorder)
