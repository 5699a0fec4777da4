"""The real worker process, spoken to through its handle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from federation.compression import decode, encode
from learning.chunks import write_chunk
from learning.data import as_chunk
from learning.generated import generated_images
from learning.models import build_model
from learning.process import Worker
from learning.vectors import layout_of
from tests.worker_events import TIMEOUT_S, Events

PLAN = {"model": "fast-cnn", "epochs": 6.0, "batch_size": 16, "learning_rate": 0.05}


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def worker(events: Events) -> Iterator[Worker]:
    """The real worker, with one thread."""
    worker = Worker(events.queue.put, threads=1)
    yield worker
    worker.stop()


def initialise(output: Path, job: str = "first") -> dict[str, Any]:
    return {"do": "initialise", "job": job, "task": "cifar10", "plan": PLAN, "output": str(output)}


def write_generated(path: Path, train: int) -> None:
    images = generated_images(train=train, test=200, seed=3)
    write_chunk(path, as_chunk(images))


def endless_training(directory: Path, layout: list[Any]) -> dict[str, Any]:
    return {
        "do": "train",
        "job": "endless",
        "task": "cifar10",
        "plan": PLAN | {"epochs": 1000.0},
        "layout": layout,
        "chunk": str(directory / "chunk.npz"),
        "model": str(directory / "model"),
        "residual": None,
        "seed": 1,
        "output": str(directory / "update"),
        "residual_output": None,
    }


def test_a_real_worker_initialises_trains_fails_and_evaluates(
    tmp_path: Path, worker: Worker, events: Events
) -> None:
    write_generated(tmp_path / "chunk.npz", 600)
    model = tmp_path / "model"
    worker.submit(initialise(model))
    layout = events.ending()["layout"]
    common = {"task": "cifar10", "plan": PLAN, "layout": layout}

    def accuracy(path: Path) -> float:
        data = str(tmp_path / "chunk.npz")
        worker.submit({**common, "do": "evaluate", "job": "e", "model": str(path), "data": data})
        event = events.ending()
        assert event["event"] == "evaluated", event
        return float(event["metrics"]["accuracy"])

    train = {
        **common,
        "do": "train",
        "job": "t",
        "chunk": str(tmp_path / "chunk.npz"),
        "model": str(model),
        "residual": None,
        "seed": 1,
        "output": str(tmp_path / "update"),
        "residual_output": str(tmp_path / "residual"),
    }
    worker.submit(train)
    trained = events.ending()
    assert (trained["event"], trained["job"], trained["examples"]) == ("trained", "t", 600)
    worker.submit(train | {"chunk": str(tmp_path / "none.npz")})
    failed = events.ending()
    assert (failed["event"], failed["job"]) == ("failed", "t")
    assert "none.npz" in failed["reason"]

    received = np.fromfile(model, "<f4")
    update = decode("int8", (tmp_path / "update").read_bytes(), received.size)
    (tmp_path / "better").write_bytes(encode("float32", received + update))
    assert accuracy(tmp_path / "better") > accuracy(model) + 0.1
    assert (tmp_path / "residual").stat().st_size == 4 * received.size
    assert not list(tmp_path.glob("*.part"))


def test_the_death_of_a_real_worker_is_told_and_the_next_job_has_a_new_one(
    tmp_path: Path, worker: Worker, events: Events
) -> None:
    write_generated(tmp_path / "chunk.npz", 300)
    worker.submit(initialise(tmp_path / "model"))
    layout = events.ending()["layout"]
    endless = endless_training(tmp_path, layout)
    worker.submit(endless)
    while (event := events.next())["phase"] != "training":
        assert event["event"] == "progress"
    assert event["job"] == "endless"
    assert 0 <= event["done"] < 1
    first = worker.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    assert events.ending() == {
        "event": "failed",
        "job": "endless",
        "reason": "worker ended with signal 9 (out of memory?)",
    }
    assert not worker.busy
    worker.submit(initialise(tmp_path / "model", "second"))
    assert events.ending()["job"] == "second"
    assert worker.pid not in {None, first}
    assert not (tmp_path / "update").exists()


def test_a_real_worker_ends_when_its_stdin_closes_also_while_it_imports() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "learning.worker", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    output, _ = process.communicate(timeout=TIMEOUT_S)
    assert (process.returncode, output) == (0, b"")


def test_a_real_worker_ends_in_the_middle_of_a_training_when_its_stdin_closes(
    tmp_path: Path,
) -> None:
    write_generated(tmp_path / "chunk.npz", 300)
    first, second = (
        json.dumps(command).encode() + b"\n"
        for command in (
            initialise(tmp_path / "model"),
            endless_training(tmp_path, layout_of(build_model("fast-cnn")).to_wire()),
        )
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "learning.worker", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(first + second)
    process.stdin.flush()
    while json.loads(process.stdout.readline()).get("phase") != "training":
        pass
    process.stdin.close()
    process.stdout.read()
    assert process.wait(TIMEOUT_S) == 0
    process.stdout.close()
    assert not (tmp_path / "update").exists()


def test_a_worker_that_is_asked_to_end_saves_the_training_first(
    tmp_path: Path, worker: Worker, events: Events
) -> None:
    write_generated(tmp_path / "chunk.npz", 300)
    worker.submit(initialise(tmp_path / "model"))
    order = endless_training(tmp_path, events.ending()["layout"])
    saved = tmp_path / "training"
    worker.submit({**order, "checkpoint": str(saved), "checkpoint_s": 3600})
    while events.next()["phase"] != "training":
        assert not saved.exists()
    worker.stop(grace_s=TIMEOUT_S)
    assert not worker.alive
    with np.load(saved, allow_pickle=False) as file:
        assert len(file.files) > 2


def test_a_worker_tells_whether_it_could_train(
    tmp_path: Path, worker: Worker, events: Events
) -> None:
    write_generated(tmp_path / "chunk.npz", 20)
    order = {"do": "check", "task": "cifar10"}
    worker.submit({**order, "job": "a", "chunk": str(tmp_path / "chunk.npz")})
    assert events.ending() == {
        "event": "checked",
        "job": "a",
        "torch": torch.__version__,
        "generated": True,
    }
    worker.submit({**order, "job": "b", "chunk": str(tmp_path / "none.npz")})
    assert "none.npz" in events.ending()["reason"]


def test_a_real_worker_keeps_stray_prints_out_of_its_events(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: Events,
    capfd: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "noisy_task.py").write_text(
        "import os\n"
        "from learning.cifar10 import Cifar10\n"
        "def make():\n"
        '    print(\'{"event": "trained", "job": "first"}\', flush=True)\n'
        "    os.write(1, b'raw noise')\n"
        "    return Cifar10()\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    worker = Worker(events.queue.put, threads=1)
    worker.submit(initialise(tmp_path / "model") | {"task": "noisy_task:make"})
    assert events.next()["event"] == "initialised"
    worker.stop()
    assert "raw noise" in capfd.readouterr().err
