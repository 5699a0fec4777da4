"""Where the demo shows itself: a live picture in a terminal, else a plain line for each version."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.text import Text

from experiments.drawing import draw
from experiments.plain import notice_line, version_lines
from experiments.scoreboard import Scoreboard


class Display(Protocol):
    """What shows a scoreboard; entered before it shows anything."""

    def show(self, board: Scoreboard) -> None:
        """Show the state as it is now."""

    def say(self, text: str) -> None:
        """Tell people something that stays, in lines of its own."""

    def close(self, board: Scoreboard) -> None:
        """Show what has not been shown yet: nothing more will come."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def display_on(console: Console) -> Display:
    """The display that the console can bear."""
    return LiveDisplay(console) if is_terminal(console) else PlainDisplay(console)


def is_terminal(console: Console) -> bool:
    """Whether pictures can be redrawn in place there, whatever FORCE_COLOR says of colours."""
    return console.file.isatty() and not console.is_dumb_terminal


class LiveDisplay:
    """The picture, drawn anew at each `show`; it goes away at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def show(self, board: Scoreboard) -> None:
        """Draw the state."""
        elapsed_s = max(0.0, time.time() - board.run.started_s)
        self._live.update(draw(board, elapsed_s, self._console.height), refresh=True)

    def say(self, text: str) -> None:
        """Print above the picture."""
        self._live.console.print(Text(text), soft_wrap=True)

    def close(self, board: Scoreboard) -> None:
        """Draw the last state."""
        self.show(board)

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()


class PlainDisplay:
    """A line for each version when its accuracy is known, and one for each notice."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._version = -1
        self._notices = 0

    def show(self, board: Scoreboard) -> None:
        """Print what is new."""
        self._print(board, final=False)

    def say(self, text: str) -> None:
        """Print a line."""
        # Without soft_wrap rich would break lines where the file or pipe has none to break.
        self._console.print(Text(text), soft_wrap=True)

    def close(self, board: Scoreboard) -> None:
        """Print the versions that were not tested, too."""
        self._print(board, final=True)

    def _print(self, board: Scoreboard, *, final: bool) -> None:
        new, self._notices = board.noticed - self._notices, board.noticed
        for notice in board.notices[-new:] if new else ():
            self.say(notice_line(notice))
        for version, line in version_lines(board, after=self._version, final=final):
            self.say(line)
            self._version = version

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass
