"""The settings of a sweep: those of a simulation, and how many are made of them, and where."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from config.simulation import SimulationSettings
from config.values import Location, Word


class SweepSettings(SimulationSettings):
    """Many simulations by a sweep definition of Weights & Biases: its grid, random draws, or Bayes.

    Parameters of the definition are settings by their name in a file, such as
    aggregation.step_size. With a key of W&B and --reporting-wandb auto or online, W&B says what to
    try; else points are made here, of the same file, and runs go to W&B's folder if at all.
    """

    usage_examples: ClassVar[tuple[str, ...]] = (
        "sweep.yaml --config fleet.toml --data images --seeds 3 --output runs/sweep",
        "sweep.yaml --count 20 --jobs 4 --reporting-wandb offline --output runs/sweep",
        "sweep.yaml --reporting-wandb online",
    )

    definition: Location = Field(
        description="YAML file with the sweep definition; may stand first, without the option"
    )
    count: int | None = Field(
        default=None,
        ge=1,
        le=1_000_000,
        description="end after this many points, or online runs (none: run_cap of the definition,"
        " or all points of a grid)",
    )
    seeds: int = Field(
        default=1, ge=1, le=1000, description="runs of each point, with seeds from seed on"
    )
    jobs: int = Field(
        default=0,
        ge=0,
        le=1024,
        description="simulations at a time, each in a process of its own (0: one a core); online,"
        " processes that train for the one simulation",
    )
    join: Word | None = Field(
        default=None,
        description="online: work on this sweep of W&B, an id or entity/project/id, beside others"
        " (none: a new one, or that of the output directory)",
    )
    output: Location | None = Field(
        default=None,
        description="directory for sweep.jsonl and the reports of each run; what is there is not"
        " run again",
    )
