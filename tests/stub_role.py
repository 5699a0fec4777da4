"""`flockwise` with `tests/stub_worker.py` for its worker: the same roles, and nothing is learned.

python tests/stub_role.py agent run ...

With STUB_STORAGE_RETRY_S in the environment a full disk is looked at so often.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # it is started as a file

import flockwise
from device_agent import storage
from federation import state_directory
from learning import process

WORKER = Path(__file__).with_name("stub_worker.py")


def main(argv: Sequence[str]) -> int:
    """As `flockwise`, with these words."""
    process.worker_command = lambda threads: (sys.executable, str(WORKER))
    if retry_s := os.environ.get("STUB_STORAGE_RETRY_S"):
        storage.RETRY_STORAGE_S = state_directory.LOOK_AGAIN_S = float(retry_s)
    return flockwise.main(argv)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
