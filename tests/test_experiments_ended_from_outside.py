"""A run of the lab that a service manager or a closed terminal ends leaves no files behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

LONG_S = 120.0
SMALL = ("--generated", "--examples", "2000", "--test-examples", "100")
SWEEP = """
method: grid
metric: {name: global/accuracy, goal: maximize}
parameters:
  versions: {value: 1000}
  devices: {value: 4}
  training.learning_rate: {values: [0.02, 0.05]}
"""


def _sweep(folder: Path) -> list[str]:
    definition = folder / "sweep.yaml"
    definition.write_text(SWEEP)
    # Processes share images that were read, not those that each can make.
    chance = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (folder / part / name).mkdir(parents=True)
            for n in range(40):
                pixels = chance.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / part / name / f"{n}.png")
    return ["sweep", str(definition), "--data", str(folder), "--jobs", "1"]


def _simulate(folder: Path) -> list[str]:
    return ["simulate", *SMALL, "--versions", "1000", "--workers", "2"]


def _compare(folder: Path) -> list[str]:
    return ["compare", *SMALL, "--passes", "1000", "--methods", "fedbuff", "--workers", "2"]


def _attack(folder: Path) -> list[str]:
    return [
        "attack",
        "--attack",
        "none",
        "--rule",
        "mean",
        *SMALL,
        "--warm-up",
        "0",
        "--versions",
        "1000",
        "--jobs",
        "2",
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("command", [_sweep, _simulate, _compare, _attack])
def test_what_was_put_aside_is_gone_when_it_is_told_to_end(
    tmp_path: Path, command: object, number: signal.Signals
) -> None:
    assert callable(command)
    aside = tmp_path / "aside"
    aside.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "flockwise", "lab", *command(tmp_path)],
        env={**os.environ, "TMPDIR": str(aside)},
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end_s = time.monotonic() + LONG_S
        while not list(aside.iterdir()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end_s
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=LONG_S)
    finally:
        process.kill()
        process.wait()
    assert list(aside.iterdir()) == []
    assert process.returncode == 128 + number
    assert "Traceback" not in said
