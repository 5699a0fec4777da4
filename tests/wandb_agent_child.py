"""A process in which the real wandb is told to try one point, as its agent does it; for tests.

    python -m tests.wandb_agent_child FOLDER DEFINITION [options of lab sweep]

The server that would choose the point is not there: the run stays on disk.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import wandb
import yaml

from experiments.sweep.command import main

POINT = {
    "training.learning_rate": {"value": 0.1},
    "aggregation": {"value": {"step_size": 0.5}},
    "training.model": {"value": "tutorial-cnn"},
}


def agent(sweep_id: str, function: Callable[[], None], **_: object) -> None:
    """What wandb's own does around the function, but for asking the server."""
    told = Path(sys.argv[1]) / "config.yaml"
    told.write_text(yaml.safe_dump({"wandb_version": 1, **POINT}))
    os.environ["WANDB_SWEEP_ID"] = sweep_id
    os.environ["WANDB_SWEEP_PARAM_PATH"] = str(told)
    os.environ["WANDB_RUN_ID"] = "run-of-the-agent"
    os.environ["WANDB_MODE"] = "offline"
    function()
    wandb.finish()


if __name__ == "__main__":
    wandb.sweep = lambda *_, **__: "abc123"
    wandb.agent = agent
    os.environ["WANDB_API_KEY"] = "0" * 40
    sys.exit(main(sys.argv[2:]))
