"""How fast a training goes, and how long it may: a straggler's slowness, a budget of time."""

from __future__ import annotations

import time
from collections.abc import Callable

from config.sections import TrainingPlan
from learning.ending import ENDING
from learning.outcomes import MayGoOn, OnStep


def slowed(on_step: OnStep, slowdown: float) -> OnStep:
    """Sleep after each step, so that all of them take `slowdown` times as long: a straggler."""
    if slowdown <= 1:
        return on_step
    woke = time.monotonic()

    def step(done: float, loss: float) -> None:
        nonlocal woke
        on_step(done, loss)
        ENDING.wait((time.monotonic() - woke) * (slowdown - 1))  # asleep no longer than wanted
        woke = time.monotonic()

    return step


def bounded(plan: TrainingPlan, spent_s: Callable[[], float]) -> dict[str, MayGoOn]:
    """What `Task.train` is to be given to end in time.

    Without a budget it is nothing, so that a task need not know of any.

    Args:
        spent_s: seconds that the training has taken by now, on all starts together.
    """
    if (budget_s := plan.budget_s) is None:
        return {}
    return {"may_go_on": lambda steps: spent_s() < budget_s}
