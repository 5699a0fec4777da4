"""The parent's handle on the worker process; it imports neither torch nor numpy.

An agent that waits for a version holds no torch in memory: the worker is started by the first
command and may be stopped between jobs. Each command ends in exactly one event that is not
`progress`: the worker's own, or a `failed` one made here when the worker dies under it. After
`stop` nothing is told any more.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeAlias

Event: TypeAlias = dict[str, Any]

log = logging.getLogger(__name__)

# The phase, in events of progress, of a job that is done but for writing what came of it.
WAITING_FOR_ROOM = "waiting for room on the disk"

_ENDINGS = frozenset({"initialised", "trained", "evaluated", "checked", "failed"})


class WorkerBusyError(RuntimeError):
    """A command was given while a job is under way: a defect of the caller."""


class Worker:
    """A child process that does one job at a time.

    Args:
        on_event: called with each event, a JSON object, from a thread of this handle; it should
            do no more than put it into a queue.
        threads: threads that torch may use; 0 takes one for each physical core.
        command: what to start instead of the real worker (for tests).
    """

    def __init__(
        self,
        on_event: Callable[[Event], None],
        *,
        threads: int = 0,
        command: Sequence[str] | None = None,
    ) -> None:
        self._on_event = on_event
        self._threads = threads or physical_cores()
        self._command = command or worker_command(self._threads)
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._reader: threading.Thread | None = None
        self._job: str | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        process = self._process
        return process is not None and process.poll() is None

    @property
    def busy(self) -> bool:
        """Whether a job is under way."""
        return self._job is not None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def submit(self, command: Mapping[str, Any]) -> None:
        """Give a command, a JSON object with `do` and `job`; starts the process where needed.

        A process that cannot be started or dies at once is told by a `failed` event.

        Raises:
            WorkerBusyError: a job is under way.
        """
        line = json.dumps(dict(command), allow_nan=False).encode() + b"\n"
        with self._lock:
            if self._job is not None:
                raise WorkerBusyError(f"the worker is busy with {self._job}")
            process = self._process
            try:
                if process is None or process.poll() is not None:
                    process = self._start()
            except OSError as error:
                process, reason = None, f"cannot start the worker: {error.strerror or error}"
            else:
                self._job = str(command["job"])
        if process is None:
            self._tell({"event": "failed", "job": command["job"], "reason": reason})
            return
        # If it is dying, the reader thread sees its end and tells of the job.
        with suppress(OSError):
            _stdin(process).write(line)
            _stdin(process).flush()

    def stop(self, grace_s: float = 0.0) -> None:
        """End the process; a job under way ends without an event, its files whole or absent.

        Args:
            grace_s: how long it may take to save a training, before it is killed.
        """
        with self._lock:
            process, reader, job = self._process, self._reader, self._job
            self._process = self._reader = self._job = None
            saving = job is not None and grace_s > 0
        if process is None:
            return
        if saving:
            process.terminate()
            if reader is not None and reader is not threading.current_thread():
                reader.join(grace_s)  # it ends with the process
        process.kill()
        process.wait()
        if reader is not None and reader is not threading.current_thread():
            reader.join()
        _close(process)

    def _start(self) -> subprocess.Popen[bytes]:
        environment = os.environ | {
            "OMP_NUM_THREADS": str(self._threads),
            # Spinning threads of several workers on the same cores made steps twenty times slower.
            "OMP_WAIT_POLICY": "PASSIVE",
        }
        process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            process_group=0,
        )
        self._process = process
        self._reader = threading.Thread(
            target=self._read, args=(process,), name="worker-events", daemon=True
        )
        self._reader.start()
        return process

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        """Deliver events until the process ends; then account for the job that it leaves."""
        with _stdout(process) as lines:
            for line in lines:
                event = _parse(line)
                if event is not None:
                    self._deliver(process, event)
        code = process.wait()
        _close(process)
        with self._lock:
            if self._process is not process:
                return
            self._process = None
            job, self._job = self._job, None
        if job is not None:
            self._tell({"event": "failed", "job": job, "reason": f"worker ended with {_end(code)}"})

    def _deliver(self, process: subprocess.Popen[bytes], event: Event) -> None:
        with self._lock:
            if self._process is not process or event.get("job") != self._job:
                return
            if event["event"] in _ENDINGS:
                self._job = None
        self._tell(event)

    def _tell(self, event: Event) -> None:
        try:
            self._on_event(event)
        except Exception:
            log.exception("an event of the worker was not taken: %s", event)


def worker_command(threads: int) -> tuple[str, ...]:
    """How the worker is started."""
    return sys.executable, "-m", "learning.worker", str(threads)


def physical_cores() -> int:
    """Cores that this process may run on, counting hyper-threads of one core once."""
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    if not allowed:
        return os.cpu_count() or 1
    cores = set()
    for cpu in allowed:
        topology = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology")
        try:
            package = (topology / "physical_package_id").read_text().strip()
            core = (topology / "core_id").read_text().strip()
        except OSError:
            package, core = "", str(cpu)
        cores.add((package, core))
    return len(cores)


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None
    return process.stdin


def _close(process: subprocess.Popen[bytes]) -> None:
    # What was not taken before the end is lost with it.
    with suppress(OSError):
        _stdin(process).close()


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _parse(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None


def _end(code: int) -> str:
    if code >= 0:
        return f"code {code}"
    hint = " (out of memory?)" if -code == signal.SIGKILL else ""
    return f"signal {-code}{hint}"
