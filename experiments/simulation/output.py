"""What a simulation leaves beside its rows: how to do it again, and what came of it."""

from __future__ import annotations

from pathlib import Path

from config.simulation import SimulationSettings
from experiments.settings_file import write_settings
from experiments.simulation.summary import Summary
from federation.compression import Vector, encode
from federation.files import replace_file

SUMMARY, MODEL, SETTINGS = "summary.json", "model.float32", "settings.toml"
_AGAIN = f"to run it again: flockwise lab simulate --config {SETTINGS} --output NEW"


def write_again(directory: Path, settings: SimulationSettings) -> None:
    """Write the settings to do the same again.

    Raises:
        Failure: the directory cannot be written.
    """
    write_settings(directory / SETTINGS, settings, _AGAIN)


def write_outcome(directory: Path, summary: Summary, model: Vector | None) -> None:
    """Write the model, if there is one, and the summary last: then the run is over."""
    if model is not None:
        replace_file(directory / MODEL, encode("float32", model))
    replace_file(directory / SUMMARY, summary.as_json())
