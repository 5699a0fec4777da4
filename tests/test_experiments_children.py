"""Children are followed by what they log, and are never left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from config.failures import Failure
from experiments.children import (
    Children,
    flockwise_command,
    how_ended,
    last_lines,
    parse_line,
)
from experiments.scoreboard import Ended, Event, Line

LONG_S = 30.0
TELLING = """
import json, sys, time
for n in range(3):
    print(json.dumps({"time": n, "level": "info", "role": "x", "text": "told", "n": n}),
          file=sys.stderr, flush=True)
"""
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); %s time.sleep(600)"
READY = "print('ready', flush=True);"


@pytest.fixture
def children() -> Iterator[Children]:
    with Children() as started:
        yield started


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.02)


def gathered(children: Children, enough: Callable[[list[Event]], bool]) -> list[Event]:
    events: list[Event] = []

    def look() -> bool:
        events.extend(children.poll())
        return enough(events)

    wait_until(look)
    return events


def has_end(events: list[Event]) -> bool:
    return any(isinstance(event, Ended) for event in events)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_what_a_child_logs_comes_in_order_and_its_end_last(
    children: Children, tmp_path: Path
) -> None:
    children.start("a", python(TELLING), tmp_path / "a" / "log")
    events = gathered(children, has_end)
    assert [event.facts["n"] for event in events if isinstance(event, Line)] == [0, 1, 2]
    end = events[-1]
    assert isinstance(end, Ended)
    assert (end.source, end.status, end.how) == ("a", 0, "ended")


def test_an_end_is_told_once(children: Children, tmp_path: Path) -> None:
    children.start("a", python("pass"), tmp_path / "log")
    gathered(children, has_end)
    assert children.poll() == []


def test_a_line_is_read_when_it_is_whole(children: Children, tmp_path: Path) -> None:
    halves = "import sys,time; w=sys.stderr.write; f=sys.stderr.flush;" + (
        'w(\'{"time": 1, "level": "info", \'); f(); time.sleep(0.3); w(\'"text": "x"}\\n\'); f()'
    )
    children.start("a", python(halves), tmp_path / "log")
    lines = [event for event in gathered(children, has_end) if isinstance(event, Line)]
    assert [line.text for line in lines] == ["x"]


def test_a_killed_child_is_told_with_the_signal_and_the_last_lines(
    children: Children, tmp_path: Path
) -> None:
    code = "import sys,time; print('out of luck', file=sys.stderr, flush=True); time.sleep(600)"
    log = tmp_path / "log"
    children.start("a", python(code), log)
    wait_until(lambda: "luck" in log.read_text())
    os.kill(children.pid("a"), signal.SIGKILL)
    end = gathered(children, has_end)[-1]
    assert isinstance(end, Ended)
    assert end.how == "was ended by SIGKILL"
    assert end.last_lines == ("out of luck",)


def test_a_child_ends_when_it_is_asked_to(children: Children, tmp_path: Path) -> None:
    children.start("a", python("import time; time.sleep(600)"), tmp_path / "log")
    assert children.is_running("a")
    assert children.stop() == ()
    assert children.status("a") == -signal.SIGTERM


def test_a_child_that_does_not_end_is_killed(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "log"
    children.start("a", python(STUBBORN % READY), log)
    wait_until(lambda: "ready" in log.read_text())
    assert children.stop(timeout_s=0.2) == ("a",)
    assert children.status("a") == -signal.SIGKILL


def test_in_a_hurry_nobody_is_waited_for(children: Children, tmp_path: Path) -> None:
    log = tmp_path / "log"
    children.start("a", python(STUBBORN % READY), log)
    wait_until(lambda: "ready" in log.read_text())
    assert children.stop(timeout_s=600, in_a_hurry=lambda: True) == ("a",)


def test_what_a_child_logs_while_it_is_ended_is_not_lost(
    children: Children, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    farewell = 'print(\'{"time": 1, "level": "info", "text": "bye"}\', flush=True)'
    code = f"""
import signal, sys, time
def leave(*_):
    {farewell}
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
{READY}
time.sleep(600)
"""
    children.start("a", python(code), log)
    wait_until(lambda: "ready" in log.read_text())
    children.stop()
    assert [event.text for event in children.poll() if isinstance(event, Line)] == ["bye"]


def test_leaving_the_context_ends_all(tmp_path: Path) -> None:
    with Children() as children:
        children.start("a", python("import time; time.sleep(600)"), tmp_path / "log")
        pid = children.pid("a")
    assert not lives(pid)


def test_no_child_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = f"""
import sys, time
from pathlib import Path
from experiments.children import Children
children = Children()
command = [sys.executable, "-c", {(STUBBORN % READY)!r}]
for name in "ab":
    children.start(name, command, Path({str(tmp_path)!r}, name))
print(children.pid("a"), children.pid("b"), flush=True)
time.sleep(600)
"""
    with subprocess.Popen(python(code), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        wait_until(lambda: all("ready" in (tmp_path / name).read_text() for name in "ab"))
        assert len(pids) == 2
        assert all(map(lives, pids))
        parent.kill()
    wait_until(lambda: not any(map(lives, pids)))


def test_a_log_that_cannot_be_written_is_a_failure(children: Children, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="cannot start a"):
        children.start("a", python("pass"), tmp_path / "file" / "log")


def test_the_environment_does_not_reach_into_a_role() -> None:
    command = flockwise_command(["agent", "run"], {"FLOCKWISE_PORT": "1", "PATH": "/bin"})
    assert command[:3] == ["env", "-u", "FLOCKWISE_PORT"]
    assert command[3:] == [sys.executable, "-m", "flockwise", "agent", "run"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Traceback",
        "[1]",
        "17",
        "null",
        '{"text": "x"}',
        '{"time": [], "level": "", "text": ""}',
    ],
)
def test_a_line_of_another_kind_is_no_log_line(text: str) -> None:
    assert parse_line("a", text) is None


def test_the_last_lines_are_readable_and_leave_debug_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text(
        '{"time": 0, "level": "warning", "role": "x", "text": "link down", "reason": "gone"}\n'
        '{"time": 1, "level": "debug", "text": "progress"}\n'
        "Fatal \x1b[31m error\n"
    )
    first, second = last_lines(log)
    assert first.endswith("warning link down reason=gone")
    assert second == "Fatal \\x1b[31m error"


def test_of_a_long_log_only_the_end_is_read(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {n}\n" for n in range(100_000)))
    assert last_lines(log, 2) == ("line 99998", "line 99999")


def test_a_log_that_is_not_there_has_no_last_lines(tmp_path: Path) -> None:
    assert last_lines(tmp_path / "none") == ()


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended"),
        (79, "ended with code 79 (duplicate)"),
        (3, "ended with code 3"),
        (-9, "was ended by SIGKILL"),
        (-200, "was ended by signal 200"),
    ],
)
def test_an_exit_status_is_told_in_words(status: int, words: str) -> None:
    assert how_ended(status) == words
