"""On what figures were made: it stands beside them."""

from __future__ import annotations

import os
import platform
from importlib import metadata
from typing import Any


def made_on() -> dict[str, Any]:
    """Machine and software, in a few words each."""
    return {
        "machine": f"{os.cpu_count()} cores, {platform.machine()}",
        "python": platform.python_version(),
        **{name: metadata.version(name) for name in ("torch", "numpy")},
    }
