"""The child process that works with models: `python -m learning.worker THREADS`.

Commands come as JSON lines on stdin, one at a time; events leave as JSON lines on stdout, which
is theirs alone: whatever else prints to it goes to stderr. The worker lives through jobs that
fail, and ends at once when stdin closes, so that it never outlives its parent. SIGTERM lets it save
the training under way before it ends.
"""

from __future__ import annotations

import json
import logging
import math
import os
import queue
import signal
import sys
import threading
import time
from typing import Any, BinaryIO

from learning.ending import ENDING

PROGRESS_S = 0.5

log = logging.getLogger("flockwise.worker")


def main(argv: list[str]) -> int:
    """Serve commands until stdin closes."""
    # Ctrl-C reaches all of a terminal's processes; the parent decides when this one ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: ENDING.set())
    logging.basicConfig(format="%(asctime)s worker %(levelname)s %(message)s", stream=sys.stderr)
    events = _take_stdout()
    commands: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(commands,), name="stdin", daemon=True).start()
    # Only now, with somebody listening for the end, what takes seconds to import.
    from learning.runtime import prepare_torch  # noqa: PLC0415

    prepare_torch(int(argv[0]))
    while True:
        _serve(commands.get(), events)


def _take_stdout() -> BinaryIO:
    """Keep stdout for events; point file descriptor 1 to stderr for all else, C code too."""
    sys.stdout.flush()
    events = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    return events


def _listen(commands: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        commands.put(line)
    # No clean-up: a parent that is gone waits for nothing, and files are whole or absent.
    os._exit(0)


def _serve(line: bytes, events: BinaryIO) -> None:
    from learning.jobs import JobError, run_job  # noqa: PLC0415

    command: Any = json.loads(line)
    job = command["job"]
    last_told, last_phase = -math.inf, ""

    def tell(event: dict[str, Any]) -> None:
        text = json.dumps({**event, "job": job}, allow_nan=False)
        events.write(text.encode() + b"\n")

    def on_progress(phase: str, done: float, loss: float | None) -> None:
        nonlocal last_told, last_phase
        now = time.monotonic()
        if phase == last_phase and now - last_told < PROGRESS_S:
            return
        last_told, last_phase = now, phase
        known = loss is not None and math.isfinite(loss)
        tell({"event": "progress", "phase": phase, "done": done, "loss": loss if known else None})

    try:
        tell(run_job(command, on_progress))
    except JobError as failure:
        log.debug("job failed", exc_info=failure)
        event = {"event": "failed", "reason": str(failure)}
        tell({**event, "storage_full": failure.storage_full})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
