"""One way of one client's link in memory: bytes leave in order, at its bandwidth."""

from __future__ import annotations

from federation.virtual_time import VirtualTime


class Line:
    """One way of one client's link: what is put on it leaves in order, at its bandwidth."""

    def __init__(self, time: VirtualTime, bandwidth: float | None) -> None:
        self._time = time
        self._bandwidth = bandwidth
        self._free_s = 0.0

    def carried_s(self, size: int) -> float:
        """When a message of `size` bytes that is put on the line now is over it."""
        self._free_s = max(self._free_s, self._time.now_s)
        if self._bandwidth is not None:
            self._free_s += size / self._bandwidth
        return self._free_s

    @property
    def alive(self) -> bool:
        """Nothing here can end by itself."""
        return True

    @property
    def backlog_bytes(self) -> int:
        """Bytes that were put on the line and are not over it."""
        return int(max(0.0, self._free_s - self._time.now_s) * (self._bandwidth or 0.0))
