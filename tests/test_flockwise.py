"""The front door finds the command, loads it alone, and tells failures in a line."""

from __future__ import annotations

import subprocess
import sys
import types
from collections.abc import Callable, Sequence

import pytest

import flockwise
from config.failures import ExitCode, Failure

Run = Callable[[Sequence[str]], int]
Install = Callable[[Run], None]


@pytest.fixture
def demo(monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a function in the place of the demo."""

    def install(function: Run) -> None:
        module = types.ModuleType("stand_in")
        module.main = function  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "stand_in", module)
        stand_in = flockwise.Command("stand_in:main", "a stand-in")
        monkeypatch.setitem(flockwise.COMMANDS, "demo", stand_in)
        monkeypatch.setitem(flockwise.COMMANDS, "lab baseline", stand_in)

    return install


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_alone_it_shows_all_commands(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert flockwise.main(argv) == 0
    shown = capsys.readouterr().out
    assert all(f"\n  {name} " in shown for name in flockwise.COMMANDS)


@pytest.mark.parametrize("argv", [["lab"], ["lab", "--help"], ["lab", "-h"]])
def test_a_group_shows_its_own_commands(
    argv: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert flockwise.main(argv) == 0
    shown = capsys.readouterr().out
    assert "lab partition" in shown
    assert "agent run" not in shown


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert flockwise.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("flockwise ")


@pytest.mark.parametrize("words", [["demo"], ["lab", "baseline"]])
def test_a_command_gets_the_rest_of_the_words(demo: Install, words: list[str]) -> None:
    got: list[str] = []

    def stand_in(argv: Sequence[str]) -> int:
        got.extend(argv)
        return 7

    demo(stand_in)
    assert flockwise.main([*words, "--devices", "3", "demo"]) == 7
    assert got == ["--devices", "3", "demo"]


@pytest.mark.parametrize(
    ("argv", "guess"),
    [(["dmeo"], "demo"), (["agent", "rum"], "agent run"), (["cordinator"], "coordinator")],
)
def test_an_unknown_command_suggests_the_nearest(
    argv: list[str], guess: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert flockwise.main(argv) == ExitCode.USAGE
    message = f"flockwise: unknown command {' '.join(argv)!r}; did you mean {guess}?\n"
    assert capsys.readouterr().err == message


def test_a_failure_is_a_line_and_its_code(
    demo: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def stand_in(argv: Sequence[str]) -> int:
        raise Failure(ExitCode.PORT_TAKEN, "port 1883 is taken")

    demo(stand_in)
    assert flockwise.main(["demo"]) == ExitCode.PORT_TAKEN
    assert capsys.readouterr().err == "flockwise: port 1883 is taken\n"


def test_a_failure_of_several_lines_is_marked_on_each(
    demo: Install, capsys: pytest.CaptureFixture[str]
) -> None:
    def stand_in(argv: Sequence[str]) -> int:
        raise Failure(ExitCode.CONFIG, "this\nthat")

    demo(stand_in)
    assert flockwise.main(["demo"]) == ExitCode.CONFIG
    assert capsys.readouterr().err == "flockwise: this\nflockwise: that\n"


def test_an_interrupt_ends_quietly(demo: Install, capsys: pytest.CaptureFixture[str]) -> None:
    def stand_in(argv: Sequence[str]) -> int:
        raise KeyboardInterrupt

    demo(stand_in)
    assert flockwise.main(["demo"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_defect_keeps_its_traceback(demo: Install) -> None:
    def stand_in(argv: Sequence[str]) -> int:
        raise ZeroDivisionError

    demo(stand_in)
    with pytest.raises(ZeroDivisionError):
        flockwise.main(["demo"])


def test_the_help_of_a_command_ends_well(demo: Install) -> None:
    def stand_in(argv: Sequence[str]) -> int:
        raise SystemExit(0)

    demo(stand_in)
    assert flockwise.main(["demo", "--help"]) == 0


def test_a_package_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = flockwise.Command("no_such_package.module:main", "")
    monkeypatch.setitem(flockwise.COMMANDS, "demo", missing)
    assert flockwise.main(["demo"]) == ExitCode.FAILURE
    assert "needs the package no_such_package" in capsys.readouterr().err


def test_the_door_itself_loads_nothing_heavy() -> None:
    code = (
        "import sys, flockwise; flockwise.main([]);"
        "heavy = {'pydantic', 'numpy', 'torch', 'paho', 'rich'} & set(sys.modules);"
        "sys.exit(len(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
