"""What devices are like: how long an image takes them, and when they are there.

Half-normal training times are those of FedBuff (Nguyen et al. 2022, arXiv:2106.06639, section 5).
Stragglers tied to labels are the case that asynchronous methods are feared to forget.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from config.sections import TrainingPlan
from config.simulation import Fleet
from learning.training import count_steps

HALF_NORMAL_MEDIAN = 0.6745
FASTEST = 0.05
DAY_S = 86_400.0


def slowness(rule: Fleet, labels: npt.NDArray[np.int64], *, seed: int) -> npt.NDArray[np.float64]:
    """How many times the typical time an image takes each device, Float64[n].

    Args:
        labels: int64[n, c], how many images of each label a device has; decides which devices are
            stragglers, where the rule ties them to labels.
        seed: decides the speeds.
    """
    devices = len(labels)
    chance = np.random.default_rng([seed, 30])
    normal = chance.standard_normal(devices)
    match rule.speed:
        case "equal":
            times = np.ones(devices)
        case "half_normal":
            times = np.maximum(np.abs(normal) / HALF_NORMAL_MEDIAN, FASTEST)
        case "lognormal":
            times = np.exp(rule.spread * normal)
    times[stragglers(rule, labels, seed=seed)] *= rule.straggler_factor
    return times


def stragglers(rule: Fleet, labels: npt.NDArray[np.int64], *, seed: int) -> npt.NDArray[np.int64]:
    """Which devices are stragglers, int64[k]: any, or those richest in the first labels."""
    devices = len(labels)
    number = round(rule.stragglers * devices)
    order = np.random.default_rng([seed, 31]).permutation(devices)
    if rule.straggler_labels:
        held = labels[:, : rule.straggler_labels].sum(axis=1) / np.maximum(labels.sum(axis=1), 1)
        order = order[np.argsort(-held[order], kind="stable")]
    return np.sort(order[:number])


class Pace:
    """How long one device trains for a version, and how many steps it makes of it."""

    def __init__(self, rule: Fleet, slow: float, examples: int, chance: random.Random) -> None:
        self._seconds_per_image = slow / rule.images_per_s
        self._examples = examples
        self._jitter = rule.jitter
        self._overhead_s = rule.overhead_s
        self._startup_s = rule.startup_s
        self._chance = chance

    def steps(self, plan: TrainingPlan) -> int | None:
        """Most steps that its budget of time lets it make; None if it ends before that."""
        if plan.budget_s is None:
            return None
        # It looks at its clock after each step, as the training loop does.
        fitting = max(1, math.ceil(plan.budget_s / self._step_s(plan)))
        return fitting if fitting < count_steps(self._examples, plan) else None

    def duration_s(self, plan: TrainingPlan) -> float:
        """Seconds of one training, with all that has to be done for it."""
        steps = self.steps(plan) or count_steps(self._examples, plan)
        jitter = self._chance.uniform(1 - self._jitter, 1 + self._jitter)
        return steps * self._step_s(plan) * jitter + self.beside_s()

    def beside_s(self) -> float:
        """Seconds that the next training takes beside its steps: the first one has to start up."""
        startup_s, self._startup_s = self._startup_s, 0.0
        return startup_s + self._overhead_s

    def _step_s(self, plan: TrainingPlan) -> float:
        parts = math.ceil(self._examples / plan.batch_size)
        return self._seconds_per_image * self._examples / parts


def presence(rule: Fleet, chance: random.Random) -> Iterator[tuple[float, float]] | None:
    """How long a device is there and then away, in turns without end; None if it always is there.

    on_off is a Markov chain of two states that begins in its stationary distribution. day_night
    gives each device so many hours of each day, from an hour of its own on.
    """
    match rule.availability:
        case "always":
            return None
        case "on_off":
            return _on_off(rule, chance)
        case "day_night":
            return _day_night(rule, chance)


def _on_off(rule: Fleet, chance: random.Random) -> Iterator[tuple[float, float]]:
    def away_s() -> float:
        return chance.expovariate(1 / rule.off_s)

    if chance.random() < rule.off_s / (rule.on_s + rule.off_s):
        yield 0.0, away_s()
    while True:
        yield chance.expovariate(1 / rule.on_s), away_s()


def _day_night(rule: Fleet, chance: random.Random) -> Iterator[tuple[float, float]]:
    there_s = rule.hours * 3600
    begins_s = chance.uniform(0, rule.zones * 3600)
    if (begins_s + there_s) > DAY_S:  # yesterday's hours last into today
        first_s = begins_s + there_s - DAY_S
        yield first_s, begins_s - first_s
    else:
        yield 0.0, begins_s
    while True:
        yield there_s, DAY_S - there_s
