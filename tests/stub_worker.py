"""A worker that needs no torch and learns nothing: it gives vectors that are known beforehand.

It speaks the same lines as `learning.worker`. The delta of an update follows from the device (the
stem of its chunk file) and from the update's sequence number alone, whoever was killed in between;
its elements are small integers, so that sums of them are exact in float32 in any order. The chunk
file is JSON: how many `updates` this device makes, and how long a training takes (`train_s`); with
a `gate`, an update that is written is not told of before that file holds its number or a later one.
On a full disk it waits with what was trained, as the real one does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is started as a file

from federation.compression import encode
from federation.files import is_storage_full, replace_file
from federation.sealing import seal
from learning.process import WAITING_FOR_ROOM

ELEMENTS = int(os.environ.get("STUB_ELEMENTS", "3000"))
PATTERN = 1021
LARGEST = 8
RETRY_S = 0.2
GATE_S = 0.01


def known_delta(device: str, sequence: int, elements: int = ELEMENTS) -> npt.NDArray[np.float32]:
    """The vector, Float32[elements], that this device makes as its update of this number."""
    seed = hashlib.blake2b(f"{device} {sequence}".encode(), digest_size=8).digest()
    chance = np.random.default_rng(int.from_bytes(seed, "big"))
    pattern = chance.integers(-LARGEST, LARGEST, PATTERN, endpoint=True)
    return np.resize(pattern, elements).astype(np.float32)


def a_stub_chunk(path: Path, updates: int, train_s: float = 0.0, gate: Path | None = None) -> Path:
    """What a device of this worker knows: `path`, named after the device."""
    known = {"updates": updates, "train_s": train_s, "gate": gate and str(gate)}
    path.write_text(json.dumps(known))
    return path


def _initialise(command: dict[str, Any]) -> dict[str, Any]:
    zeros = np.zeros(ELEMENTS, np.float32)
    replace_file(Path(command["output"]), encode("float32", zeros))
    return {"event": "initialised", "layout": [["w", [ELEMENTS]]]}


def _train(command: dict[str, Any]) -> dict[str, Any]:
    chunk, output = Path(command["chunk"]), Path(command["output"])
    about = json.loads(chunk.read_text())
    sequence = int(output.name.partition(".")[0])
    if sequence >= about["updates"]:
        sys.stdin.read()  # it has made all its updates: this training never ends
        os._exit(0)
    _wait(about["train_s"])
    delta = known_delta(chunk.stem, sequence)
    payload = encode("float32", delta)
    if told := command.get("seal"):
        payload = seal(payload, bytes.fromhex(told["key"]), bytes.fromhex(told["about"]))
    while not _is_written(output, payload):
        _tell({"event": "progress", "phase": WAITING_FOR_ROOM, "done": 1.0}, command)
        _wait(RETRY_S)
    if gate := about.get("gate"):
        while int(Path(gate).read_text() or -1) < sequence:
            _wait(GATE_S)
    return {"event": "trained", "examples": 1, "steps": 1, "seconds": 0.0, "metrics": {}}


def _wait(seconds: float) -> None:
    threading.Event().wait(seconds)  # libfaketime breaks `time.sleep`


def _is_written(path: Path, data: bytes) -> bool:
    try:
        replace_file(path, data)
    except OSError as error:
        if not is_storage_full(error):
            raise
        return False
    return True


def _tell(event: dict[str, Any], command: dict[str, Any]) -> None:
    print(json.dumps({**event, "job": command["job"]}), flush=True)


def main() -> None:
    """Do jobs, one JSON line each, until the parent is gone."""
    jobs = {"initialise": _initialise, "train": _train}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            event = jobs[command["do"]](command)
        except OSError as error:
            event = {"event": "failed", "reason": f"{error.filename}: {error.strerror}"}
        _tell(event, command)


if __name__ == "__main__":
    main()
