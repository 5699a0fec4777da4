"""The handle on the worker, with small stand-ins for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import Any

import pytest

from learning.process import Worker, WorkerBusyError, physical_cores
from tests.worker_events import Events


@pytest.fixture
def events() -> Events:
    return Events()


def stand_in(events: Events, program: str) -> Worker:
    return Worker(events.queue.put, threads=1, command=(sys.executable, "-c", program))


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
