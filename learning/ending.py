"""Being asked to end: a worker saves the training under way first, if it can do so soon."""

from __future__ import annotations

import threading

# Set once the parent has asked this process to end; looked at after each step.
ENDING = threading.Event()
