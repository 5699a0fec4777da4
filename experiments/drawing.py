"""The live display as a picture of the scoreboard: pure, a scoreboard in, what rich draws out."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from experiments.scoreboard import DeviceRow, Notice, Phase, Scoreboard, VersionRow
from experiments.wording import (
    accuracy_text,
    bytes_text,
    count_text,
    seconds_text,
    sparkline,
)

VERSIONS_SHOWN = 5
NOTICES_SHOWN = 3
_CURVE = 30
_BAR = 16
_STYLES = {
    Phase.STARTING: "dim",
    Phase.WAITING: "dim",
    Phase.FETCHING: "cyan",
    Phase.LOADING: "blue",
    Phase.TESTING: "blue",
    Phase.TRAINING: "green",
    Phase.DELIVERING: "magenta",
    Phase.ENDED: "red",
}


def draw(board: Scoreboard, elapsed_s: float, height: int) -> RenderableType:
    """The picture, in at most `height` lines where there is a choice; `elapsed_s` of the run."""
    rows_shown = max(1, height - 2 * VERSIONS_SHOWN - NOTICES_SHOWN - 3)
    parts: list[RenderableType] = [
        _heading(board),
        _standing(board, elapsed_s),
        Text(),
        _devices(board, rows_shown),
    ]
    if board.versions:
        parts += [Text(), _versions(board)]
    if board.notices:
        parts += [Text(), *(_notice(one) for one in board.notices[-NOTICES_SHOWN:])]
    parts += [Text(), Text(f"Ctrl-C ends it; all is kept in {board.run.directory}", style="dim")]
    return Group(*parts)


def _heading(board: Scoreboard) -> Text:
    run = board.run
    devices = count_text(len(run.examples), "device")
    images = Text(run.source, style="bold yellow" if run.generated else "")
    return Text.assemble(
        ("Flockwise", "bold"), f" · {run.strategy} · {devices} · ", images, f" · {run.broker}"
    )


def _standing(board: Scoreboard, elapsed_s: float) -> Text:
    """The header line: version, accuracy now, the curve so far, seconds."""
    newest = board.newest
    if newest is None:
        online = sum(row.linked for row in board.devices.values())
        waiting = f"starting: {online} of {len(board.devices)} devices are there"
        return Text.assemble((waiting, "bold"), f"   {seconds_text(elapsed_s)}")
    tested = board.tested
    accuracy = tested[-1].accuracy if tested else None
    curve = sparkline([row.accuracy for row in tested if row.accuracy is not None], _CURVE)
    return Text.assemble(
        (f"version {newest.version} of {board.run.versions}", "bold"),
        "   accuracy ",
        (accuracy_text(accuracy, generated=board.run.generated), "bold green"),
        (f" {curve}   ", "green"),
        seconds_text(elapsed_s),
    )


def _devices(board: Scoreboard, rows_shown: int) -> RenderableType:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("device", no_wrap=True)
    table.add_column("phase", min_width=10, no_wrap=True)
    table.add_column("", width=_BAR)
    for title in ("version", "accepted", "up", "down"):
        table.add_column(title, justify="right", no_wrap=True)
    shown = list(board.devices.items())[:rows_shown]
    for device, row in shown:
        table.add_row(
            device,
            _phase(row),
            _bar(row),
            "" if row.version is None else str(row.version),
            f"{row.accepted}" + (f" (-{row.refused})" if row.refused else ""),
            bytes_text(row.sent_bytes),
            bytes_text(row.received_bytes),
        )
    hidden = len(board.devices) - len(shown)
    return Group(table, Text(f"… and {hidden} more", style="dim")) if hidden else table


def _phase(row: DeviceRow) -> Text:
    offline = not row.linked and row.phase not in (Phase.STARTING, Phase.ENDED)
    text = Text(row.phase.value, style=_STYLES[row.phase])
    return text.append(" (no link)", style="red") if offline else text


def _bar(row: DeviceRow) -> RenderableType:
    working = row.phase in (Phase.LOADING, Phase.TESTING, Phase.TRAINING)
    return ProgressBar(total=1.0, completed=row.done, width=_BAR) if working else Text()


def _versions(board: Scoreboard) -> Table:
    generated = " (generated images)" if board.run.generated else ""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("version", "made at", "updates", f"accuracy{generated}", "missed versions"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("of", overflow="ellipsis", no_wrap=True)
    for row in reversed(board.versions[-VERSIONS_SHOWN:]):
        table.add_row(
            str(row.version),
            seconds_text(row.made_s),
            str(len(row.devices)),
            _tested(row),
            " ".join(map(str, row.staleness)),
            ", ".join(row.devices) or "the first model",
        )
    return table


def _tested(row: VersionRow) -> str:
    return "" if row.accuracy is None else accuracy_text(row.accuracy, generated=False)


def _notice(notice: Notice) -> Text:
    style = "yellow" if notice.level == "warning" else "red"
    text = f"{seconds_text(notice.at_s)}  {notice.source}: {notice.text}"
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
