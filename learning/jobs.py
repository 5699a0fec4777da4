"""The jobs of a worker: initialise a model, train one, evaluate one, check what it needs.

A job takes a command (a JSON object), writes its files durably and gives the event that says so:
what an event tells is on disk. How to talk to the parent is the business of `learning.worker`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from blake3 import blake3
from pydantic import ValidationError
from torch import nn

from config.failures import Failure
from config.sections import Privacy, TrainingPlan
from federation.compression import Vector, encode
from federation.files import is_storage_full, replace_file
from federation.layout import Layout, LayoutError
from federation.sealing import SealError, seal
from federation.sizes import CodecError
from learning.checkpoint import Checkpoint
from learning.outcomes import DivergenceError, OnStep, findings
from learning.pace import bounded, slowed
from learning.privacy import privatized
from learning.process import WAITING_FOR_ROOM
from learning.tasks import Task, resolve
from learning.updates import Cover, make_update
from learning.vectors import ModelMismatchError, layout_of, load_vector, read_vector, vector_of

Command: TypeAlias = dict[str, Any]
Event: TypeAlias = dict[str, Any]
# Told what phase a job is in, the share of it that is done, and the last loss.
OnProgress: TypeAlias = Callable[[str, float, float | None], None]


WRITE_AGAIN_S = 15.0


class JobError(Exception):
    """A job that could not be done, with its reason in one line.

    Attributes:
        storage_full: there was no room on the disk; later there may be.
    """

    storage_full = False


def run_job(command: Command, on_progress: OnProgress) -> Event:
    """Do what the command says and give the event that ends the job.

    Raises:
        JobError: whatever went wrong; nothing was written under the names of the outputs.
    """
    try:
        job = JOBS[command["do"]]
    except (KeyError, TypeError):
        raise JobError(f"unknown job {command.get('do')!r}") from None
    try:
        return job(command, on_progress)
    except (Failure, ModelMismatchError, CodecError, LayoutError, SealError) as error:
        raise JobError(str(error)) from error
    except KeyError as error:
        raise JobError(f"the command lacks {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = "privacy" if error.title == Privacy.__name__ else "training plan"
        raise JobError(f"bad {what}: {where}: {first['msg']}") from error
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        failure = JobError(f"{where}{error.strerror or error}")
        failure.storage_full = is_storage_full(error)
        raise failure from error
    except MemoryError as error:
        raise JobError("out of memory") from error
    except Exception as error:  # also whatever a user's task raises
        line = (str(error).splitlines() or [""])[0]
        raise JobError(f"{type(error).__name__}: {line}") from error


def initialise(command: Command, on_progress: OnProgress) -> Event:
    """Write the fresh model of a task as raw float32 and tell its layout."""
    task, plan = _task_and_plan(command)
    model = task.build_model(plan)
    replace_file(Path(command["output"]), encode("float32", vector_of(model)))
    return {"event": "initialised", "layout": layout_of(model).to_wire()}


def train(command: Command, on_progress: OnProgress) -> Event:
    """Test the received model on the held-out part, train it, and write the encoded difference.

    The difference is local - received, and what becomes of it `learning.updates` says. A residual
    that does not fit this model is left out: losing it costs a little accuracy, insisting on it
    would cost the device. A memory is no such thing: without it the coordinator's would be wrong.

    With privacy the difference is clipped and noised first, and nothing else is told of the data:
    a residual is then what was rounded away of noised differences alone (the parent hands over no
    other), and so are this payload and the next residual, functions of these and of the plan. A
    memory is what was sent before.
    """
    task, plan = _task_and_plan(command)
    privacy = _privacy(command)
    model, received = _received_model(task, plan, command)
    on_progress("loading", 0.0, None)
    data = task.load(Path(command["chunk"]))
    tested = task.evaluate(model, data, on_step=_steps("testing", on_progress))

    memory = _read_memory(command, plan, received.size)
    checkpoint = _checkpoint(command, received)
    started = time.monotonic()

    def seconds_spent() -> float:
        return checkpoint.spent_s + time.monotonic() - started

    trained = task.train(
        model,
        data,
        plan,
        seed=int(command["seed"]),
        on_step=slowed(_steps("training", on_progress), float(command.get("slowdown", 1.0))),
        checkpoint=checkpoint,
        **bounded(plan, seconds_spent),
    )
    seconds = seconds_spent()

    delta = vector_of(model)
    delta -= received
    if not np.isfinite(delta).all():
        raise DivergenceError("the trained model holds numbers that are not finite")
    norm = float(np.linalg.norm(delta))
    residual = None if plan.memory else _read_residual(command.get("residual"), delta.size)
    cover = None if privacy is None else _cover(privacy)
    update = make_update(delta, plan.codec, residual=residual, memory=memory, cover=cover)
    outputs: dict[Path, bytes] = {}
    # The payload last: an update that is announced is never without what is kept of it.
    for kept, name in ((update.residual, "residual_output"), (update.memory, "memory_output")):
        if kept is not None and command.get(name) is not None:
            outputs[Path(command[name])] = encode("float32", kept)
    outputs[Path(command["output"])] = payload = _sealed(update.payload, command)
    _write_trained(outputs, checkpoint, on_progress)
    event = {
        "event": "trained",
        "examples": trained.examples,
        "steps": trained.steps,
        "seconds": round(seconds, 3),
        "size": len(payload),
        "residual_used": residual is not None,
        "generated": task.is_generated(data),
        "metrics": {
            **trained.metrics,
            **{f"held_out_{name}": value for name, value in tested.metrics.items()},
            "delta_norm": norm,
        },
    }
    return event if privacy is None else event | _withheld(privacy)


def evaluate(command: Command, on_progress: OnProgress) -> Event:
    """Test a model on the held-out part of a chunk."""
    task, plan = _task_and_plan(command)
    model, _ = _received_model(task, plan, command)
    on_progress("loading", 0.0, None)
    data = task.load(Path(command["data"]))
    tested = task.evaluate(model, data, on_step=_steps("testing", on_progress))
    return {
        "event": "evaluated",
        "examples": tested.examples,
        "metrics": dict(tested.metrics),
        "generated": task.is_generated(data),
        "findings": findings(tested),
    }


def check(command: Command, on_progress: OnProgress) -> Event:
    """See whether a chunk can be read by its task, and which torch does the work."""
    task = resolve(command["task"])
    data = task.load(Path(command["chunk"]))
    return {"event": "checked", "torch": torch.__version__, "generated": task.is_generated(data)}


def _task_and_plan(command: Command) -> tuple[Task[Any], TrainingPlan]:
    return resolve(command["task"]), TrainingPlan.model_validate(command["plan"])


def _sealed(payload: bytes, command: Command) -> bytes:
    """The payload for the coordinator alone, where its key is told: only so it is on a disk."""
    told = command.get("seal")
    if told is None:
        return payload
    return seal(payload, bytes.fromhex(told["key"]), bytes.fromhex(told["about"]))


def _privacy(command: Command) -> Privacy | None:
    given = command.get("privacy")
    rule = Privacy() if given is None else Privacy.model_validate(given)
    return rule if rule.is_on else None


def _withheld(privacy: Privacy) -> Event:
    """That there is noise, and in place of each figure about the data what says nothing of it."""
    told: Event = {"noised": {"clip": privacy.clip, "noise": privacy.noise}}
    if privacy.tell_figures:
        return told
    return told | {"examples": 1, "steps": 0, "seconds": 0.0, "metrics": {}}


def _received_model(
    task: Task[Any], plan: TrainingPlan, command: Command
) -> tuple[nn.Module, Vector]:
    """The task's model with the numbers of the file, and these numbers."""
    model = task.build_model(plan)
    layout = layout_of(model)
    if Layout.from_wire(command["layout"]) != layout:
        raise ModelMismatchError(
            f"the layout that came is not the one that task {command['task']}"
            f" gives the model {plan.model}"
        )
    codec = command.get("model_codec", "float32")
    vector = read_vector(Path(command["model"]), codec, layout.size)
    load_vector(model, vector)
    return model, vector


def _checkpoint(command: Command, received: Vector) -> Checkpoint:
    """Where this very training is saved: same model, plan, seed and chunk, or none."""
    path = command.get("checkpoint")
    if path is None:
        return Checkpoint(None)
    chunk = Path(command["chunk"]).stat()

    def about() -> str:
        digest = blake3(received.view(np.uint8).data).hexdigest(length=16)
        told = [digest, command["plan"], command["seed"], chunk.st_size, chunk.st_mtime_ns]
        return json.dumps(told, sort_keys=True)

    return Checkpoint(Path(path), float(command.get("checkpoint_s", inf)), about)


def _write_trained(
    outputs: dict[Path, bytes], checkpoint: Checkpoint, on_progress: OnProgress
) -> None:
    """Write what a training gave; on a full disk wait for room, lest it be trained again."""
    for path, data in outputs.items():
        while True:
            try:
                replace_file(path, data)
                break
            except OSError as error:
                if not is_storage_full(error):
                    raise
            if checkpoint.discard():
                continue  # what it gave room to is better than itself
            on_progress(WAITING_FOR_ROOM, 1.0, None)
            time.sleep(WRITE_AGAIN_S)


def _read_residual(path: str | None, d: int) -> Vector | None:
    if path is None:
        return None
    try:
        residual = read_vector(Path(path), "float32", d)
    except (OSError, ModelMismatchError):
        return None
    return residual if np.isfinite(residual).all() else None


def _read_memory(command: Command, plan: TrainingPlan, d: int) -> Vector | None:
    """What was taken of this device, zeros at first; None if the plan has no memory."""
    if not plan.memory:
        return None
    if command["memory"] is None:
        return np.zeros(d, dtype=np.float32)
    return read_vector(Path(command["memory"]), "float32", d)


def _cover(privacy: Privacy) -> Cover:
    return lambda vector: privatized(vector, privacy.clip, privacy.noise_multiplier)


def _steps(phase: str, on_progress: OnProgress) -> OnStep:
    return lambda done, loss: on_progress(phase, done, loss)


JOBS: dict[str, Callable[[Command, OnProgress], Event]] = {
    "initialise": initialise,
    "train": train,
    "evaluate": evaluate,
    "check": check,
}
