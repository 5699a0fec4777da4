"""When a version comes about, and how much each update counts in it: plain functions.

The three triggers: `rounds` (a cohort, with a deadline and over-selection: McMahan et al. 2017,
arXiv:1602.05629; Bonawitz et al. 2019, arXiv:1902.01046), `buffer` (K updates: FedBuff, Nguyen
et al. 2022, arXiv:2106.06639) and `immediate` (each update: FedAsync, Xie et al. 2020,
arXiv:1903.03934).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from math import ceil, inf

from config.settings import Aggregation
from coordinator.norms import clip
from coordinator.vocabulary import Accepted, Contribution


def candidates(buffer: Iterable[Accepted], barred: Collection[str] = ()) -> tuple[Accepted, ...]:
    """The updates that the next version may be made of: the first of each device, in order.

    Args:
        barred: devices of which nothing may be in this version.
    """
    first: dict[str, Accepted] = {}
    for accepted in buffer:
        first.setdefault(accepted.id.device, accepted)
    return tuple(accepted for device, accepted in first.items() if device not in barred)


def chosen(
    rule: Aggregation, ready: tuple[Accepted, ...], cohort: int, overdue: bool
) -> tuple[Accepted, ...]:
    """The updates to make a version of now; none if it is not time.

    Args:
        ready: the candidates, in order of arrival.
        cohort: number of devices that were invited and are, or were, there in this round.
        overdue: whether the deadline has passed.
    """
    least = needed(rule, cohort)
    if len(ready) >= least:
        return ready[:least] if rule.trigger != "rounds" else ready
    return ready if overdue and len(ready) >= rule.min_updates else ()


def needed(rule: Aggregation, cohort: int) -> int:
    """How many updates a version is made of, before its deadline."""
    match rule.trigger:
        case "immediate":
            return 1
        case "buffer":
            return rule.buffer_size
        case "rounds":
            return max(1, rule.min_updates, ceil(cohort / rule.over_selection))


def deadline_s(rule: Aggregation, began_s: float, first_s: float) -> float:
    """When to combine what is there: counted from a round's begin, or a buffer's first update."""
    if rule.deadline_s is None or rule.trigger == "immediate":
        return inf
    return (began_s if rule.trigger == "rounds" else first_s) + rule.deadline_s


def staleness_scale(rule: Aggregation, staleness: int) -> float:
    """s(t) of FedAsync, section 5.2: how much an update counts that missed t versions.

    constant: 1. polynomial: (1 + t)^-a. hinge: 1 up to t = b, then 1 / (1 + a (t - b)).
    """
    match rule.staleness:
        case "constant":
            return 1.0
        case "polynomial":
            return float((1.0 + staleness) ** -rule.staleness_exponent)
        case "hinge":
            beyond = max(0, staleness - rule.hinge_knee)
            return 1.0 / (1.0 + rule.hinge_slope * beyond)


def contribution(
    rule: Aggregation,
    accepted: Accepted,
    version: int,
    median_norm: float | None = None,
    *,
    known: bool | None = None,
) -> Contribution:
    """How an accepted update enters the version that is made of `version`.

    With `clipped_mean` an update whose norm is over the bound, clip_factor times the median, is
    shortened to it. FedAsync (`reanchor`) steps towards base + delta; what is shortened there is
    this whole step, by the factor that brings delta alone within the bound. So what a device says
    never counts for more than the bound, and the way from the current version back to its base
    gets no longer.

    Args:
        median_norm: how long updates are lately; None if that is not known yet.
        known: as `Contribution` has it.
    """
    staleness = version - accepted.base_version
    clipped = 1.0
    if rule.combine == "clipped_mean" and median_norm is not None:
        clipped = clip(accepted.norm, rule.clip_factor * median_norm)
    return Contribution(
        id=accepted.id,
        base_version=accepted.base_version,
        staleness=staleness,
        scale=staleness_scale(rule, staleness) * clipped,
        weight=float(accepted.examples) if rule.by_examples else 1.0,
        clip=clipped,
        known=known,
    )
