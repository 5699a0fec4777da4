"""In a terminal a picture of the scoreboard, elsewhere a plain line for each version."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from experiments.display import LiveDisplay, PlainDisplay, display_on
from experiments.drawing import draw
from experiments.following import follow
from experiments.plain import version_line, version_lines
from experiments.scoreboard import (
    COORDINATOR,
    Ended,
    Line,
    Run,
    Scoreboard,
    VersionRow,
    opening,
)

RUN = Run(
    started_s=0.0,
    strategy="fedbuff",
    model="tutorial-cnn",
    examples={"device-000": 90, "device-001": 90},
    test_examples=50,
    source="images in [photos]",
    generated=False,
    versions=4,
    broker="mosquitto 2.0.11",
    directory=Path("runs/x"),
)
GENERATED = replace(RUN, source="generated images (seed 0)", generated=True)


class Terminal(io.StringIO):
    """A file that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def told(source: str, text: str, at_s: float = 0.0, level: str = "info", **facts: object) -> Line:
    return Line(source, at_s, level, text, facts)


def on_its_way(run: Run = RUN) -> Scoreboard:
    board = opening(run)
    for line in (
        told("device-000", "link up"),
        told("device-001", "link up"),
        told(COORDINATOR, "version published", 2, version=0, bytes=248_024),
        told(
            COORDINATOR,
            "version made",
            9,
            version=1,
            devices=["device-001", "device-000"],
            staleness=[0, 2],
        ),
        told(COORDINATOR, "version evaluated", 11, version=1, accuracy=0.4567, loss=1.5),
        told("device-000", "progress", version=1, phase="training", done=0.5, loss=1.0),
        told("device-000", "traffic", sent_bytes=62_500, received_bytes=1_250_000),
        told(COORDINATOR, "update accepted", device="device-000", sequence=0, base_version=0),
    ):
        board = follow(board, line)
    return board


def picture(board: Scoreboard, height: int = 40) -> list[str]:
    console = Console(width=100, height=height, file=io.StringIO(), color_system=None)
    with console.capture() as capture:
        console.print(draw(board, 15.0, height))
    return [line.rstrip() for line in capture.get().splitlines()]


def row_of(board: Scoreboard, start: str) -> list[str]:
    return next(line for line in picture(board) if line.startswith(start)).split()


def test_the_heading_names_strategy_devices_images_and_broker() -> None:
    heading = picture(on_its_way())[0]
    assert heading == "Flockwise · fedbuff · 2 devices · images in [photos] · mosquitto 2.0.11"


def test_before_the_first_version_it_says_who_is_there() -> None:
    assert picture(opening(RUN))[1] == "starting: 0 of 2 devices are there   15 s"


def test_the_standing_is_version_accuracy_curve_and_seconds() -> None:
    assert picture(on_its_way())[1] == "version 1 of 4   accuracy 45.7 % ▁   15 s"


def test_a_row_is_what_a_device_does_and_did() -> None:
    row = row_of(on_its_way(), "device-000")
    assert row[:2] == ["device-000", "training"]
    assert row[-6:] == ["1", "1", "62.5", "kB", "1.25", "MB"]


def test_a_device_without_a_link_says_so() -> None:
    board = follow(on_its_way(), told("device-000", "link down"))
    assert "training (no link)" in " ".join(row_of(board, "device-000"))


def test_a_dead_device_stays_in_its_row() -> None:
    board = follow(on_its_way(), Ended("device-000", 20, -9, "was ended by SIGKILL"))
    assert row_of(board, "device-000")[1] == "ended"


def test_versions_tell_what_they_are_made_of() -> None:
    row = row_of(on_its_way(), "      1")
    assert row == ["1", "9", "s", "2", "45.7", "%", "0", "2", "device-001,", "device-000"]


def test_of_many_devices_those_that_fit_are_shown() -> None:
    many = replace(RUN, examples={f"device-{n:03d}": 10 for n in range(64)})
    lines = picture(opening(many), height=24)
    assert len(lines) <= 24
    assert any(line.startswith("… and ") for line in lines)


@pytest.mark.parametrize("board", [on_its_way(GENERATED)])
def test_every_accuracy_on_generated_images_is_labelled(board: Scoreboard) -> None:
    lines = picture(board)
    assert "accuracy 45.7 % (generated images)" in lines[1]
    assert any("accuracy (generated images)" in line for line in lines[2:])
    assert "(generated images)" in version_line(board.versions[1], generated=True)


def test_a_plain_line_tells_a_version() -> None:
    row = on_its_way().versions[1]
    assert version_line(row, generated=False) == (
        "version 1  accuracy 45.7 %  made at 9 s of 2 updates (device-001, device-000 missed 2)"
    )


def test_lines_wait_for_the_accuracy_of_their_version() -> None:
    board = replace(
        opening(RUN),
        versions=tuple(VersionRow(n, n, accuracy=0.5 if n in (0, 2) else None) for n in range(4)),
    )
    assert [version for version, _ in version_lines(board, after=-1, final=False)] == [0, 1, 2]
    assert [version for version, _ in version_lines(board, after=2, final=False)] == []
    assert [version for version, _ in version_lines(board, after=2, final=True)] == [3]


def test_each_version_and_notice_is_printed_once() -> None:
    file = io.StringIO()
    with display_on(Console(file=file)) as display:
        board = on_its_way()
        display.show(opening(RUN))
        display.show(board)
        board = follow(board, told("device-001", "link down", 12, "warning", reason="[gone]"))
        display.show(board)
        display.show(board)
        display.close(board)
    assert file.getvalue().splitlines() == [
        "version 0  accuracy not tested  made at 2 s",
        version_line(board.versions[1], generated=False),
        "warning at 12 s  device-001: link down reason=[gone]",
    ]


def test_a_plain_line_is_never_broken() -> None:
    file = io.StringIO()
    with display_on(Console(file=file, width=20)) as display:
        display.say("a [line] that is much longer than twenty characters")
    assert file.getvalue() == "a [line] that is much longer than twenty characters\n"


def test_a_terminal_gets_the_picture_and_a_file_gets_lines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(display_on(Console(file=Terminal())), LiveDisplay)
    assert isinstance(display_on(Console(file=io.StringIO())), PlainDisplay)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert isinstance(display_on(Console(file=io.StringIO())), PlainDisplay)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(display_on(Console(file=Terminal())), PlainDisplay)


def test_the_picture_is_drawn_and_what_is_said_stays_above_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    file = Terminal()
    with display_on(Console(file=file, width=100)) as display:
        display.show(on_its_way())
        display.say("device-001 was ended")
        display.close(on_its_way())
    assert "version 1 of 4" in file.getvalue()
    assert "device-001 was ended" in file.getvalue()
