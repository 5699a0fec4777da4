"""One command makes a whole federation of real processes, and leaves none of them behind."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import flockwise
from config.failures import ExitCode
from tests.processes import command

LONG_S = 90.0
SMALL = (
    "demo",
    "--generated",
    "--examples=120",
    "--test-examples=60",
    "--training-model=tutorial-cnn",
    "--wandb=off",
    "--devices=2",
)


def wait_until(condition: Callable[[], bool]) -> None:
    end_s = time.monotonic() + LONG_S
    while not condition():
        assert time.monotonic() < end_s, "waited in vain"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def descendants(pid: int) -> list[int]:
    """The processes that a process started, and those that these did."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        children += [int(word) for word in task.read_text().split()]
    return [*children, *(one for child in children for one in descendants(child))]


@contextmanager
def a_demo(run_dir: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A demo that would go on for long, once its first version is there."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("FLOCKWISE_")}
    arguments = [*SMALL, "--versions=5000", f"--run-dir={run_dir}", *words]
    with subprocess.Popen(
        [sys.executable, "-m", "flockwise", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=clean,
        text=True,
    ) as demo:
        try:
            log = run_dir / "coordinator" / "coordinator.log"
            wait_until(lambda: log.exists() and '"version made"' in log.read_text())
            yield demo
        finally:
            demo.kill()


def pid_of(run_dir: Path, device: str) -> int:
    return int((run_dir / "devices" / device / "lock").read_text())


def test_a_demo_runs_from_images_to_a_summary(tmp_path: Path) -> None:
    run_dir, file = tmp_path / "run", tmp_path / "summary.json"
    done = command(*SMALL, "--versions=2", f"--run-dir={run_dir}", f"--summary={file}", "--json")

    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (
        summary
        == json.loads(file.read_text())
        == json.loads((run_dir / "summary.json").read_text())
    )
    assert (summary["ending"], summary["data"]["generated"]) == ("finished", True)
    assert [row["version"] for row in summary["versions"]] == [0, 1, 2]
    assert 0 <= summary["accuracy"] <= 1
    assert sum(one["contributions"] for one in summary["devices"].values()) == 4
    assert summary["updates"]["bytes_each"] < summary["model_bytes"]
    assert all(one["bytes_up"] > 60_000 for one in summary["devices"].values())
    assert re.search(r"version 2  accuracy \d+\.\d % \(generated images\)", done.stderr)
    for name in (
        "broker/broker.log",
        "authority/authority.json",
        "devices/device-000/membership/signing.key",
        "demo.toml",
        "chunks/test.npz",
        "coordinator/reports.jsonl",
        "coordinator/coordinator.toml",
        "devices/device-000/agent.log",
        "devices/device-001/agent.toml",
    ):
        assert (run_dir / name).is_file(), name


def test_ctrl_c_ends_all_and_sums_up_what_there_is(tmp_path: Path) -> None:
    with a_demo(tmp_path / "run") as demo:
        started = descendants(demo.pid)
        os.kill(pid_of(tmp_path / "run", "device-000"), signal.SIGKILL)
        log = tmp_path / "run" / "coordinator" / "coordinator.log"
        wait_until(lambda: '"device offline"' in log.read_text())
        demo.send_signal(signal.SIGINT)
        said, _ = demo.communicate(timeout=LONG_S)
    assert demo.returncode == 130
    assert "device-000 was ended by SIGKILL; the others go on." in said
    assert "To start it again by hand: flockwise agent run --config" in said
    assert "interrupted at version" in said
    assert "Traceback" not in said
    assert len(started) >= 4
    wait_until(lambda: not any(map(lives, started)))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["ending"] == "interrupted"
    assert summary["devices"]["device-000"]["ended"] == "was ended by SIGKILL"


def test_nothing_outlives_a_demo_that_is_killed(tmp_path: Path) -> None:
    with a_demo(tmp_path / "run") as demo:
        started = descendants(demo.pid)
        assert len(started) >= 4
        demo.kill()
    wait_until(lambda: not any(map(lives, started)))


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["--devices", "0"], ExitCode.CONFIG, "--devices is '0'"),
        (["--data", "/none"], ExitCode.NO_INPUT, "no images at /none/train"),
        (["--generated", "--data", "x"], ExitCode.CONFIG, "generated and data exclude each other"),
        (["--summary", "/none/s.json"], ExitCode.CANNOT_WRITE, "no such directory"),
        (["--baseline", "/none"], ExitCode.NO_INPUT, "baseline /none cannot be read"),
        (["--run-dir", "."], ExitCode.CONFIG, "holds something already"),
        (["--aggregation-wait-for", "9"], ExitCode.CONFIG, "there are only 5 devices"),
        (["--devises", "3"], ExitCode.USAGE, "did you mean --devices?"),
    ],
)
def test_what_cannot_work_is_one_clear_line(
    words: list[str],
    code: ExitCode,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").write_text("")
    assert flockwise.main(["demo", *words]) == code
    told = capsys.readouterr().err.splitlines()
    assert len(told) == 1
    assert message in told[0]


def test_help_reads_like_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert flockwise.main(["demo", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "A whole federation on this machine" in shown
    assert "--json for short" in " ".join(shown.split())
