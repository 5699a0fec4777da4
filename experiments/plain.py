"""The lines that tell of a run where no terminal is: pure, a scoreboard in, lines out."""

from __future__ import annotations

from collections.abc import Iterator

from experiments.scoreboard import Notice, Scoreboard, VersionRow
from experiments.wording import accuracy_text, count_text, seconds_text


def version_lines(board: Scoreboard, *, after: int, final: bool) -> Iterator[tuple[int, str]]:
    """The versions after one, with a line each, up to the newest that was tested.

    A test comes after its version, and may be left out when a later one is tested instead: lines
    wait for that, until `final` says that nothing more will come.
    """
    tested = board.tested
    newest_tested = tested[-1].version if tested else -1
    for row in board.versions:
        if row.version > after and (final or row.version <= newest_tested):
            yield row.version, version_line(row, generated=board.run.generated)


def version_line(row: VersionRow, *, generated: bool) -> str:
    """One version in a line: `version 3  accuracy 52.1 %  made at 41 s of 3 updates (…)`."""
    accuracy = accuracy_text(row.accuracy, generated=generated)
    words = f"version {row.version}  accuracy {accuracy}  made at {seconds_text(row.made_s)}"
    if not row.devices:
        return words
    missed = zip(row.devices, row.staleness, strict=True)
    parts = ", ".join(f"{d} missed {m}" if m else d for d, m in missed)
    return f"{words} of {count_text(len(row.devices), 'update')} ({parts})"


def notice_line(notice: Notice) -> str:
    """A notice in a line."""
    return f"{notice.level} at {seconds_text(notice.at_s)}  {notice.source}: {notice.text}"
