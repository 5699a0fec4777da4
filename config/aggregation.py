"""The sections of the settings that say how updates become a version, and whose do."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from config.values import Section


class Aggregation(Section):
    """How updates become a version: when, with what weight, combined how, applied how.

    The defaults are those of the strategy fedbuff; the others change some of them.
    """

    trigger: Literal["rounds", "buffer", "immediate"] = Field(
        default="buffer",
        description="a version for each round of invited devices, each full buffer, or each update",
    )
    buffer_size: int = Field(
        default=10, ge=1, le=100_000, description="updates that fill the buffer (K of FedBuff)"
    )
    deadline_s: float | None = Field(
        default=600.0,
        gt=0,
        description="combine what is there this long after a round began or a buffer's first update"
        " (none: wait for all)",
    )
    fraction: float = Field(
        default=1.0, gt=0, le=1, description="share of the devices invited to a version"
    )
    over_selection: float = Field(
        default=1.0,
        ge=1,
        le=10,
        description="end a round when the invited devices divided by this have delivered",
    )
    min_updates: int = Field(
        default=1, ge=1, le=100_000, description="fewest updates that a deadline may combine"
    )
    wait_for: int = Field(
        default=1, ge=1, le=100_000, description="publish nothing before so many devices are online"
    )
    by_examples: bool = Field(
        default=False, description="weight an update by its number of examples"
    )
    staleness: Literal["constant", "polynomial", "hinge"] = Field(
        default="polynomial", description="how the weight falls with t, the versions missed"
    )
    staleness_exponent: float = Field(
        default=0.5, ge=0, le=10, description="a of polynomial: (1 + t)^-a"
    )
    hinge_slope: float = Field(
        default=10.0, ge=0, le=1000, description="a of hinge: 1 / (1 + a (t - b)) where t > b"
    )
    hinge_knee: int = Field(
        default=4, ge=0, le=10_000, description="b of hinge: full weight up to t = b"
    )
    max_staleness: int = Field(
        default=20, ge=0, le=10_000, description="refuse updates that missed more versions"
    )
    combine: Literal[
        "mean", "clipped_mean", "trimmed_mean", "median", "geometric_median", "multi_krum"
    ] = Field(
        default="clipped_mean",
        description="how the updates become one; all but mean withstand hostile ones",
    )
    hostile_fraction: float = Field(
        default=0.2, ge=0, lt=0.5, description="share of updates that a robust rule is to withstand"
    )
    mix: bool = Field(
        default=False,
        description="average each update with those nearest to it before a robust rule: for devices"
        " of unlike data (no effect on mean and clipped_mean)",
    )
    clip_factor: float = Field(
        default=1.0,
        gt=0,
        le=1000,
        description="clipped_mean: no update counts for more than this times the median norm",
    )
    norm_limit: float | None = Field(
        default=1000.0,
        ge=1,
        description="refuse updates whose norm is over this times the median (none: take any)",
    )
    cooldown: int | None = Field(
        default=None,
        ge=0,
        le=1000,
        description="versions that a device waits after a contribution"
        " (none: as many as half of the fleet can spare)",
    )
    reanchor: bool = Field(
        default=False,
        description="step towards the device's own model, rebuilt from its base (FedAsync)",
    )
    memory_gain: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="with training.memory: factor of what is new against the memory (gamma)",
    )
    step: Literal["sgd", "momentum", "adam", "yogi"] = Field(
        default="sgd", description="what the server does with the combined update"
    )
    step_size: float = Field(
        default=1.0, gt=0, le=100, description="step of the server (eta; alpha of FedAsync)"
    )
    beta1: float = Field(
        default=0.9, ge=0, lt=1, description="decay of the first moment (momentum, adam, yogi)"
    )
    beta2: float = Field(
        default=0.99, ge=0, lt=1, description="decay of the second moment (adam, yogi)"
    )
    epsilon: float = Field(
        default=1e-3, gt=0, le=1, description="floor of the adaptive step (adam, yogi)"
    )

    @model_validator(mode="after")
    def _can_fill(self) -> Self:
        if self.trigger == "buffer" and self.min_updates > self.buffer_size:
            raise ValueError("min_updates must not be greater than buffer_size")
        return self


def memory_fault(rule: Aggregation) -> str | None:
    """Why versions cannot be made by this rule while devices have a memory; None if they can."""
    if rule.combine != "mean":
        return f"training.memory needs aggregation.combine mean, not {rule.combine}"
    if rule.reanchor:
        return "training.memory and aggregation.reanchor exclude each other"
    if rule.by_examples:
        return "training.memory and aggregation.by_examples exclude each other"
    return None


class StandingRules(Section):
    """When a device's updates enter no version any more."""

    quarantine: Literal["auto", "manual"] = Field(
        default="auto",
        description="auto: devices whose updates are wild nearly always; manual: by hand only",
    )
    wild_factor: float = Field(
        default=10.0,
        ge=2,
        le=1e6,
        description="an update is wild if its norm is over this times what clipped_mean allows",
    )
    threshold: float = Field(
        default=0.9,
        gt=0.5,
        le=1,
        description="share of wild ones among a device's last updates that leads to quarantine",
    )
