"""Named settings that lie between the defaults and what a person sets: one TOML file a strategy."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent

PRESETS = ("fedbuff", "fedavg", "fedasync", "memory")


@cache
def preset(name: str) -> dict[str, dict[str, Any]]:
    """Read the preset `name`: its sections and their values. Do not change what it returns."""
    with (_HERE / f"{name}.toml").open("rb") as file:
        return tomllib.load(file)


def laid_over_preset(data: Any, default: str) -> Any:
    """What was set, over what the preset of its strategy says; `default` is the strategy if unset.

    What is no mapping, or names no preset, is given back for the model to refuse.
    """
    strategy = data.get("strategy", default) if isinstance(data, dict) else None
    if not isinstance(strategy, str) or strategy not in PRESETS:
        return data
    laid = dict(data)
    for section, values in preset(strategy).items():
        over = laid.get(section, {})
        if isinstance(over, dict):
            laid[section] = {**values, **over}
    return laid
