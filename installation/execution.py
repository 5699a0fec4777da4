"""Carries a plan out, or shows it; one line for each step."""

from __future__ import annotations

from collections.abc import Callable

from installation.environment import AddToEnvironment, MakeEnvironment
from installation.machine import Machine
from installation.steps import PAST, Plan, Step, cannot_write

_NOTHING_TO_KEEP = ("remove", "stop", "disable", "reload")
_SLOW = (MakeEnvironment, AddToEnvironment)


def carry_out(plan: Plan, machine: Machine, say: Callable[[str], None]) -> int:
    """Do what is not done, in order; how many steps that were.

    Raises Failure at the first step that cannot be done; what was done before stays.
    """
    done = 0
    for step in plan:
        if step.is_done(machine, done > 0):
            _say_kept(step, say)
            continue
        if isinstance(step, _SLOW):
            say(f"{step.verb} {step.what} (this takes minutes)")
        try:
            step.do(machine)
        except OSError as error:
            raise cannot_write(error) from error
        say(f"{PAST[step.verb]} {step.what}")
        done += 1
    return done


def show(plan: Plan, machine: Machine, say: Callable[[str], None]) -> None:
    """Say what `carry_out` would do, with the text of each file; change nothing."""
    changed = False
    for step in plan:
        if _is_done(step, machine, changed):
            _say_kept(step, say)
            continue
        changed = True
        say(f"would {step.verb} {step.what}")
        for line in step.shown.splitlines():
            say(f"    {line}".rstrip())


def _is_done(step: Step, machine: Machine, changed: bool) -> bool:
    try:
        return step.is_done(machine, changed)
    except PermissionError:  # of root alone; a dry run does without
        return False


def _say_kept(step: Step, say: Callable[[str], None]) -> None:
    if step.verb not in _NOTHING_TO_KEEP:
        say(f"kept {step.what}")
