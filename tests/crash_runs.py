"""A process that does runs with a crash each, one after another: `python tests/crash_runs.py`.

It reads runs as JSON lines from stdin (`directory`, `port`, `scenario`, `crash`, `lossy`) and gives
a line for each. Everything is imported once, without a thread; each role of each run is a fork.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"  # threads do not fork
sys.path.insert(0, str(Path(__file__).parents[1]))  # it is started as a file

from tests import crashing_role

ROLES = (
    "coordinator.service",
    "coordinator.inspection",
    "coordinator.replaying",
    "device_agent.service",
)
QUICK = {
    "coordinator.core": {"GRACE_S": 0.05},
    "coordinator.uploads": {"PACE_S": 0.1, "ASK_AGAIN_S": 0.2, "SWEEP_S": 0.2},
    "coordinator.storage": {"RETRY_S": 0.1},
    "device_agent.silence": {"HELLO_S": 0.5},
    "device_agent.delivery": {"SPREAD_S": 0.05},
    "device_agent.work": {"RETRY_TRAINING_S": 0.1},
    "device_agent.storage": {"RETRY_STORAGE_S": 0.1},
    "federation.state_directory": {"LOOK_AGAIN_S": 0.05},
}


def main() -> None:
    """Do runs until there are no more."""
    crashing_role.install()
    for module in ROLES:
        importlib.import_module(module)
    one_run = importlib.import_module("tests.crash_run").Run
    for module, shorter in QUICK.items():
        for name, seconds in shorter.items():
            assert hasattr(sys.modules[module], name), f"{module} has no {name} any more"
            setattr(sys.modules[module], name, seconds)
    for line in sys.stdin:
        order = json.loads(line)
        print(json.dumps({**order, **_do(one_run, order)}), flush=True)


def _do(one_run: Any, order: dict[str, Any]) -> dict[str, Any]:
    crash = crashing_role.Crash(**order["crash"]) if order["crash"] else None
    run = one_run(Path(order["directory"]), order["port"], order["scenario"], crash, order["lossy"])
    began_s = time.monotonic()
    try:
        told = {**run.go(), "fault": ""}
        shutil.rmtree(run.directory)
    except Exception as error:
        told = {"fault": f"{type(error).__name__}: {error}", "logs": run.logs()}
    return {**told, "seconds": round(time.monotonic() - began_s, 2)}


if __name__ == "__main__":
    main()
