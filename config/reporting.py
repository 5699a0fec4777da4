"""The settings of the reports: which sinks there are beside the file, and what they are shown."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from config.values import Location, Section, WandbMode, Word


class Reporting(Section):
    """Where the story of a run is told: Weights & Biases, online or on disk, and TensorBoard."""

    wandb: WandbMode = Field(
        default="auto", description="auto: online where a key is found, else offline"
    )
    project: Word = Field(default="flockwise", description="project of Weights & Biases")
    group: Word | None = Field(default=None, description="group of runs that belong together")
    job_type: Word | None = Field(default=None, description="what kind of run it is in its group")
    run_name: Word | None = Field(default=None, description="name of the run")
    tags: Word | None = Field(default=None, description="tags of the run, with commas between them")
    artifacts: Literal["off", "last", "tested"] = Field(
        default="last",
        description="versions that Weights & Biases keeps as artifacts: the last tested one, when"
        " the coordinator ends, or each tested one; a copy each",
    )
    tables_every: int | None = Field(
        default=10,
        ge=1,
        description="show the confusion matrix and sample predictions of each test of this many,"
        " and of the last one (none: of no test)",
    )
    alert_fall: float | None = Field(
        default=0.1,
        gt=0,
        le=1,
        description="alert when the accuracy is this far below its best; 0.1 is ten points"
        " (none: never)",
    )
    tensorboard: Location | None = Field(
        default=None, description="directory for TensorBoard (none: nothing is written for it)"
    )
