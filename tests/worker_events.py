"""For tests of the worker: its events, waited for one after another."""

from __future__ import annotations

import queue
from typing import Any

TIMEOUT_S = 60


class Events:
    """A worker's events, waited for one after another."""

    def __init__(self) -> None:
        self.queue: queue.Queue[dict[str, Any]] = queue.Queue()

    def next(self) -> dict[str, Any]:
        return self.queue.get(timeout=TIMEOUT_S)

    def ending(self) -> dict[str, Any]:
        while (event := self.next())["event"] == "progress":
            pass
        return event
