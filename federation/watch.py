"""What watches a role from outside: the service manager, people who ask how it goes, and who
changes its settings while it runs."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import Any

from federation.machine import Stop
from federation.status_board import StatusBoard
from federation.supervision import Supervisor


class Watch:
    """The outside of one role, as its loop sees it.

    Args:
        status: how the role is doing, as plain values; `summary` of it is one line for people.
        is_alive: whether all threads and processes that the loop relies on live.
        reload: takes up changed settings: a `Stop` if the role has to begin anew for them.
    """

    def __init__(
        self,
        board: StatusBoard | None = None,
        status: Callable[[], dict[str, Any]] = dict,
        is_alive: Callable[[], bool] = lambda: True,
        reload: Callable[[], Stop | None] = lambda: None,
    ) -> None:
        self._board = board
        self._supervisor = Supervisor()
        self._status = status
        self._is_alive = is_alive
        self._reload = reload
        self._begins_anew = False

    @property
    def due_s(self) -> float:
        """When to `look` again though nothing happens, on the monotonic clock."""
        shown_s = self._board.due_s if self._board is not None else inf
        return min(shown_s, self._supervisor.due_s)

    def begin(self) -> None:
        """The role is ready; a link it finds later, or never."""
        self._show(now=True)
        self._supervisor.ready()

    def something_happened(self) -> None:
        """What is shown may be old."""
        if self._board is not None:
            self._board.touch()

    def look(self) -> None:
        """Tell what is due."""
        self._show()
        self._supervisor.feed(self._is_alive)

    def reload(self) -> Stop | None:
        """Somebody asks to take up changed settings."""
        self._supervisor.reloading()
        stop = self._reload()
        self._begins_anew = stop is not None
        if stop is None:
            self._supervisor.ready()
        return stop

    def end(self) -> None:
        """The role is about to end, or to begin anew."""
        if not self._begins_anew:
            self._supervisor.stopping()
        self._show(now=True)

    def _show(self, *, now: bool = False) -> None:
        if self._board is not None and (now or self._board.due_s < inf):
            told = self._board.show(self._status, now=now)
            self._supervisor.status(str(told.get("summary", "")))
