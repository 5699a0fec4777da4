"""Runs of the worker's jobs, killed at a point and done again: `python tests/crash_training.py`.

It reads crashes as JSON lines from stdin (`directory`, `job`, `crash`) and gives a line for each:
whether the crash came, and what the second attempt wrote, as digests. The jobs are `initialise`,
`train`, and `full`: a training that finds the disk full once. Torch is imported once and
has one thread; each attempt is a fork.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not fork
sys.path.insert(0, str(Path(__file__).parents[1]))  # it is started as a file

from tests import crashing_role

PLAN = {"model": "tutorial-cnn", "epochs": 2, "batch_size": 16, "codec": "int8"}
FULL = crashing_role.Crash(
    "worker",
    "learning/jobs.py _write_trained: replace_file > "
    "federation/files.py replace_file.write: stream.write",
    "full",
)


def main() -> None:
    """Do what is asked, one line each."""
    crashing_role.install()
    from learning.runtime import prepare_torch  # noqa: PLC0415 - after `install`
    from tests.processes import a_chunk  # noqa: PLC0415

    prepare_torch(1)
    for line in sys.stdin:
        order = json.loads(line)
        directory = Path(order["directory"])
        crash = crashing_role.Crash(**order["crash"]) if order["crash"] else None
        directory.mkdir(parents=True)
        a_chunk(directory / "chunk.npz")
        first = _initialise(directory) if order["job"] != "initialise" else {}
        code = _attempt(directory, order["job"], crash, first)
        hit = code == -signal.SIGKILL
        if hit:
            code = _attempt(directory, order["job"], None, first)
        counts = json.loads((directory / "counts").read_text())
        made = {n: _digest(directory / n) for n in ("fresh", "0.update", "0.residual")}
        left = sorted(path.name for path in directory.glob("*.part"))
        told = {"hit": hit, "code": code, "counts": counts, "made": made, "left": left}
        print(json.dumps({**order, **told}), flush=True)


def _attempt(
    directory: Path, job: str, crash: crashing_role.Crash | None, first: dict[str, Any]
) -> int:
    pid = os.fork()
    if not pid:
        code = 1
        try:
            befalls = [one for one in (crash, FULL if job == "full" else None) if one]
            crashing_role.arm("worker", befalls, directory / "counts")
            if job == "initialise":
                _initialise(directory)
            else:
                _do(_training(directory, first))
            crashing_role.tell_counts()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _initialise(directory: Path) -> dict[str, Any]:
    command = {"do": "initialise", "task": "cifar10", "plan": PLAN}
    return _do({**command, "output": str(directory / "fresh")})


def _training(directory: Path, first: dict[str, Any]) -> dict[str, Any]:
    return {
        "do": "train",
        "task": "cifar10",
        "plan": PLAN,
        "chunk": str(directory / "chunk.npz"),
        "model": str(directory / "fresh"),
        "model_codec": "float32",
        "checkpoint": str(directory / "training"),
        "checkpoint_s": 0.0,
        "residual": None,
        "seed": 1,
        "slowdown": 1.0,
        "output": str(directory / "0.update"),
        "residual_output": str(directory / "0.residual"),
        "layout": first["layout"],
    }


def _do(command: dict[str, Any]) -> dict[str, Any]:
    from learning.jobs import run_job  # noqa: PLC0415

    return run_job(command, lambda *_: None)


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes()).hexdigest() if path.exists() else ""


if __name__ == "__main__":
    main()
