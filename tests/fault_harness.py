"""Runs of a federation of real processes with faults; nothing may be lost, nothing done twice.

    python -m tests.fault_harness --agents 20 --updates 500 --kills 60 --seed 1

Four parts, each a federation of its own: `immediate` and `buffer` kill every party at random
moments while the links are bad; `absence` takes the coordinator away for a while; `recovery`
measures how long a broker that was killed and is empty keeps 20 agents from their work.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fault_plan import BUFFERED, IMMEDIATE, Plan, schedule
from tests.fault_runs import QUICK_LINK, Tell, after_broker_kills, with_kills, without_coordinator


def main(argv: list[str]) -> int:
    """Make the parts that are asked for, and print what came of them."""
    options = _parser().parse_args(argv)
    # So that contexts are left, and no role outlives the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))

    def tell(line: str) -> None:
        print(f"  {line}", file=sys.stderr, flush=True)

    each, rest = divmod(options.updates, options.agents)
    if rest:
        _parser().error("--updates must be a multiple of --agents")
    results: dict[str, Any] = {"seed": options.seed}
    for part in options.part or PARTS:
        tell(f"{part}:")
        directory = Path(tempfile.mkdtemp(prefix="flockwise-faults-"))
        try:
            results[part] = PARTS[part](options, each, directory, tell)
        except AssertionError as fault:
            tell(f"seed {options.seed}, {part}: {fault}")
            tell(f"what it left on disk is in {directory}")
            return 1
        except BaseException:
            shutil.rmtree(directory)
            raise
        shutil.rmtree(directory)
        if not options.json:
            print(f"{part}: {json.dumps(results[part])}", flush=True)
    if options.json:
        print(json.dumps(results))
    return 0


def _kills(rule: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    def part(options: Any, each: int, directory: Path, tell: Tell) -> dict[str, Any]:
        plan = Plan(
            *(options.agents, each, options.seed, rule),
            train_s=options.train_s,
            link=QUICK_LINK,
        )
        strikes = schedule(options.seed, plan.devices, options.kills, options.power_cuts, 3.0)
        return with_kills(plan, strikes, directory, options.idle_limit_s, tell)

    return part


def _absence(options: Any, each: int, directory: Path, tell: Tell) -> dict[str, Any]:
    plan = Plan(options.agents, each, options.seed, IMMEDIATE, options.train_s, bad_links=False)
    return without_coordinator(plan, options.away_s, directory, options.idle_limit_s, tell)


def _recovery(options: Any, each: int, directory: Path, tell: Tell) -> dict[str, Any]:
    # So slow that the machine has time to spare: it is the waiting that is measured.
    train_s = 5 * options.train_s
    plan = Plan(options.agents, 10_000, options.seed, IMMEDIATE, train_s, bad_links=False)
    found = {}
    for away_s in (0.0, 30.0):
        place = directory / f"{away_s:g}"
        place.mkdir()
        found[f"away {away_s:g} s"] = after_broker_kills(
            plan, options.repetitions, away_s, place, tell
        )
    return found


PARTS: dict[str, Callable[..., dict[str, Any]]] = {
    "immediate": _kills(IMMEDIATE),
    "buffer": _kills(BUFFERED),
    "absence": _absence,
    "recovery": _recovery,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.fault_harness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--part", action="append", choices=PARTS, help="only this part; may be said several times")
    add("--agents", type=int, default=20, help="number of agents [%(default)s]")
    add("--updates", type=int, default=500, help="updates of all agents together [%(default)s]")
    add("--kills", type=int, default=60, help="kills at random moments [%(default)s]")
    add("--power-cuts", type=int, default=1, help="moments that kill everyone [%(default)s]")
    add("--seed", type=int, default=1, help="seed of the schedule and the links [%(default)s]")
    add("--train-s", type=float, default=2.0, help="seconds a training takes [%(default)s]")
    add("--away-s", type=float, default=120.0, help="absence of the coordinator [%(default)s]")
    add("--repetitions", type=int, default=5, help="broker kills that are timed [%(default)s]")
    add(
        *("--idle-limit-s",),
        type=float,
        default=180.0,
        help="seconds without any progress after which the run is given up [%(default)s]",
    )
    add("--json", action="store_true", help="print one JSON object at the end")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
