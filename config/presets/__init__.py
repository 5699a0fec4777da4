"""Named settings that lie between the defaults and what a person sets: one TOML file a strategy."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

PRESETS = ("fedbuff", "fedavg", "fedasync")


@cache
def preset(name: str) -> dict[str, dict[str, Any]]:
    """Read the preset `name`: its sections and their values. Do not change what it returns."""
    with (_HERE / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)
