"""The handle on the worker, with the real worker process and with small stand-ins."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from federation.compression import decode, encode
from learning.chunks import Chunk, write_chunk
from learning.generated import generated_images
from learning.process import Worker, WorkerBusyError, physical_cores

PLAN = {"model": "fast-cnn", "epochs": 6.0, "batch_size": 16, "learning_rate": 0.05}
TIMEOUT_S = 60


class Events:
    """A worker's events, waited for one after another."""

    def __init__(self) -> None:
        self.queue: queue.Queue[dict[str, Any]] = queue.Queue()

    def next(self) -> dict[str, Any]:
        return self.queue.get(timeout=TIMEOUT_S)

    def ending(self) -> dict[str, Any]:
        while (event := self.next())["event"] == "progress":
            pass
        return event


@pytest.fixture
def events() -> Events:
    return Events()


@pytest.fixture
def worker(events: Events) -> Iterator[Worker]:
    """The real worker, with one thread."""
    worker = Worker(events.queue.put, threads=1)
    yield worker
    worker.stop()


def stand_in(events: Events, program: str) -> Worker:
    return Worker(events.queue.put, threads=1, command=(sys.executable, "-c", program))


def initialise(output: Path, job: str = "first") -> dict[str, Any]:
    return {"do": "initialise", "job": job, "task": "cifar10", "plan": PLAN, "output": str(output)}


def write_generated(path: Path, train: int) -> None:
    images = generated_images(train=train, test=200, seed=3)
    chunk = Chunk(
        images.train_images,
        images.train_labels,
        images.test_images,
        images.test_labels,
        images.class_names,
        generated=True,
    )
    write_chunk(path, chunk)


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
    endless = {
        "do": "train",
        "job": "endless",
        "task": "cifar10",
        "plan": PLAN | {"epochs": 1000.0},
        "layout": layout,
        "chunk": str(tmp_path / "chunk.npz"),
        "model": str(tmp_path / "model"),
        "residual": None,
        "seed": 1,
        "output": str(tmp_path / "update"),
        "residual_output": None,
    }
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


def test_nothing_is_started_before_the_first_command(events: Events) -> None:
    worker = Worker(events.queue.put)
    assert (worker.alive, worker.busy, worker.pid) == (False, False, None)
    worker.stop()


def test_importing_the_handle_imports_neither_torch_nor_numpy() -> None:
    program = (
        "import sys, learning.process\n"
        "sys.exit(' '.join({'torch', 'numpy', 'pydantic'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert run.stderr.strip() == ""


ECHO = """
import json, os, sys
for line in sys.stdin:
    job = json.loads(line)["job"]
    for text in {lines}:
        print(text.replace("JOB", job), flush=True)
"""


def test_one_job_is_done_at_a_time(events: Events) -> None:
    worker = stand_in(events, ECHO.format(lines="""['{"event": "progress", "job": "JOB"}']"""))
    worker.submit({"job": "a"})
    assert events.next()["event"] == "progress"
    assert worker.busy
    with pytest.raises(WorkerBusyError, match="busy with a"):
        worker.submit({"job": "b"})
    worker.stop()


def test_nonsense_and_events_of_other_jobs_are_ignored(events: Events) -> None:
    lines = """['no json', '[1]', '{"event": 3, "job": "JOB"}',
        '{"event": "trained", "job": "old"}', '{"event": "trained", "job": "JOB"}']"""
    worker = stand_in(events, ECHO.format(lines=lines))
    for job in ("a", "b"):
        worker.submit({"job": job})
        assert events.next() == {"event": "trained", "job": job}
        assert not worker.busy
    worker.stop()
    assert events.queue.empty()


def test_a_worker_that_ends_by_itself_under_a_job_is_told_with_its_code(events: Events) -> None:
    worker = stand_in(events, "import sys; sys.stdin.readline(); sys.exit(3)")
    worker.submit({"job": "a"})
    assert events.next() == {"event": "failed", "job": "a", "reason": "worker ended with code 3"}
    assert not worker.alive


def test_a_worker_that_dies_before_it_reads_is_told_also(events: Events) -> None:
    worker = stand_in(events, "import sys; sys.exit(4)")
    worker.submit({"job": "a", "padding": "x" * 1_000_000})
    assert events.next() == {"event": "failed", "job": "a", "reason": "worker ended with code 4"}


def test_a_worker_that_dies_between_jobs_is_not_told_and_is_replaced(events: Events) -> None:
    lines = """['{"event": "trained", "job": "JOB"}']"""
    worker = stand_in(events, ECHO.format(lines=lines))
    worker.submit({"job": "a"})
    events.next()
    pid = worker.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    while worker.alive:
        time.sleep(0.01)
    worker.submit({"job": "b"})
    assert events.next() == {"event": "trained", "job": "b"}
    worker.stop()
    assert events.queue.empty()


def test_a_worker_that_cannot_be_started_fails_the_job(events: Events) -> None:
    worker = Worker(events.queue.put, threads=1, command=("/nowhere/python",))
    worker.submit({"job": "a"})
    event = events.next()
    assert event["reason"] == "cannot start the worker: No such file or directory"
    assert not worker.busy


def test_stop_ends_a_job_without_an_event_even_if_the_worker_is_deaf(events: Events) -> None:
    program = (
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sys.stdin.readline()\n"
        """print('{"event": "progress", "job": "a"}', flush=True)\n"""
        "time.sleep(1000)"
    )
    worker = stand_in(events, program)
    worker.submit({"job": "a"})
    events.next()
    pid = worker.pid
    assert pid is not None
    worker.stop()
    assert (worker.alive, worker.busy) == (False, False)
    assert events.queue.empty()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_stop_may_be_called_from_the_thread_of_the_events(events: Events) -> None:
    def stop(event: dict[str, Any]) -> None:
        worker.stop()
        events.queue.put(event)

    program = ECHO.format(lines="""['{"event": "trained", "job": "JOB"}']""")
    worker = Worker(stop, threads=1, command=(sys.executable, "-c", program))
    worker.submit({"job": "a"})
    assert events.next()["event"] == "trained"
    assert not worker.alive


def test_an_event_that_is_not_taken_does_not_end_the_listening(events: Events) -> None:
    def take(event: dict[str, Any]) -> None:
        events.queue.put(event)
        if event["event"] == "progress":
            raise ValueError("a defect of the caller")

    lines = """['{"event": "progress", "job": "JOB"}', '{"event": "trained", "job": "JOB"}']"""
    worker = Worker(take, threads=1, command=(sys.executable, "-c", ECHO.format(lines=lines)))
    worker.submit({"job": "a"})
    assert [events.next()["event"] for _ in range(2)] == ["progress", "trained"]
    worker.stop()


def test_the_worker_is_told_its_threads_and_to_wait_without_spinning(events: Events) -> None:
    program = (
        "import json, os, sys\n"
        "sys.stdin.readline()\n"
        "names = ('OMP_NUM_THREADS', 'OMP_WAIT_POLICY')\n"
        "print(json.dumps({'event': 'trained', 'job': 'a', 'env': [os.environ[n] for n in names]}),"
        " flush=True)\n"
        "sys.stdin.readline()"
    )
    worker = Worker(events.queue.put, threads=3, command=(sys.executable, "-c", program))
    worker.submit({"job": "a"})
    assert events.next()["env"] == ["3", "PASSIVE"]
    worker.stop()


def test_there_is_at_least_one_physical_core_and_no_more_than_processors() -> None:
    assert 1 <= physical_cores() <= (os.cpu_count() or 1)
