"""The first version: the fresh model of the task, made once for each ledger."""

from __future__ import annotations

import errno
import queue
from pathlib import Path
from typing import Any

import numpy as np

from config.failures import ExitCode, Failure
from config.settings import CoordinatorSettings
from coordinator.ledger import Ledger
from coordinator.versions import Versions
from federation.layout import Layout
from learning.process import Worker

PATIENCE_S = 300.0


def ensure_first_version(
    settings: CoordinatorSettings, ledger: Ledger, versions: Versions, scratch: Path
) -> Layout:
    """The layout of the ledger's model; makes version 0 in a new ledger.

    Raises:
        Failure: the task cannot make a model, or the ledger is about another one.
        OSError: the disk is full.
    """
    task, name = settings.task, settings.training.model
    fresh = scratch / "fresh.float32"
    if (known := ledger.model()) is not None:
        known_task, known_name, layout = known
        if (known_task, known_name) != (task, name):
            raise Failure(
                ExitCode.CONFIG,
                f"the ledger in {settings.state_dir} is about {known_name} ({known_task}), not "
                f"{name} ({task}); choose another state_dir for another model",
            )
        if ledger.has_memory() != settings.training.memory:
            was = "with" if ledger.has_memory() else "without"
            raise Failure(
                ExitCode.CONFIG,
                f"the ledger in {settings.state_dir} was begun {was} training.memory, and keeps to"
                " it: what devices sent means something else; choose another state_dir",
            )
        fresh.unlink(missing_ok=True)  # a kill may have left it
        return layout
    layout = _initialise(settings, fresh)
    vector = np.fromfile(fresh, dtype="<f4").astype(np.float32, copy=False)
    versions.save(0, vector, {}, layout)
    ledger.begin(task, name, layout, memory=settings.training.memory)
    fresh.unlink()
    return layout


def _initialise(settings: CoordinatorSettings, output: Path) -> Layout:
    answers: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
    worker = Worker(answers.put, threads=settings.threads)
    worker.submit(
        {
            "do": "initialise",
            "job": "first",
            "task": settings.task,
            "plan": settings.training.model_dump(mode="json"),
            "output": str(output),
        }
    )
    try:
        while True:
            answer = answers.get(timeout=PATIENCE_S)
            if answer["event"] == "initialised":
                return Layout.from_wire(answer["layout"])
            if answer.get("storage_full"):
                raise OSError(errno.ENOSPC, str(answer["reason"]))
            if answer["event"] == "failed":
                raise Failure(ExitCode.FAILURE, f"cannot make the model: {answer['reason']}")
    except queue.Empty:
        raise Failure(
            ExitCode.FAILURE, f"cannot make the model: no answer in {PATIENCE_S:g} s"
        ) from None
    finally:
        worker.stop()
