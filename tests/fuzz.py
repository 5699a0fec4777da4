"""Fuzz every decoder: `python -m tests.fuzz --minutes 10 [--seed N] [--target NAME] [--json]`.

Each target of `tests/fuzz_targets.py` gets the same share of the time. A target fails if it raises
anything but its own refusals, takes more memory than a few times what it was given, or takes long.

Most cases are made by an ordinary generator of random numbers: hypothesis takes hundreds of times
as long for a case as a decoder does. What leads to an answer that was not seen before is damaged
further. Hypothesis makes the rest, and makes what failed small; it is printed as a command that
does it again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import re
import resource
import signal
import sys
import tempfile
import time
import tracemalloc
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.fuzz_cases import case
from tests.fuzz_targets import Target, targets

SLOWEST_S = 5.0
# Rust and C allocate where tracemalloc does not look: beyond this they get nothing.
ROOM_BYTES = 2**30
LONGEST_SHOWN = 4096
REDUCTION_S = 20.0
MOST_SPECIMENS = 500
LONGEST_SPECIMEN = 2**16
# Of the time of a target, for cases of hypothesis.
HYPOTHESIS_SHARE = 0.2


@dataclass
class Outcome:
    """What became of one target; `answers` are different refusals, by their texts."""

    target: str
    cases: int = 0
    refused: int = 0
    answers: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    peak_bytes: int = 0
    resident_mib: int = 0
    failure: str = ""
    case: str = ""


class FuzzError(AssertionError):
    """A decoder took too much memory, or too long."""


class Meter:
    """Runs one target on one case after another, and keeps count."""

    def __init__(self, name: str, target: Target, patience_s: float = 0.0) -> None:
        """Begin with the specimens.

        Args:
            patience_s: after so long a decoder is interrupted; 0 waits. It takes SIGALRM.
        """
        self.outcome = Outcome(name)
        self._patience_s = patience_s
        self.last = b""
        self.specimens = [*target.specimens, *target.bad]
        self._target = target
        self._answers: set[str] = set()

    def check(self, data: bytes) -> None:
        """Decode; whatever is raised from here is a failure."""
        outcome, target = self.outcome, self._target
        self.last = data
        outcome.cases += 1
        answer = "taken"
        began_s = time.perf_counter()
        tracemalloc.start()
        if self._patience_s:
            signal.setitimer(signal.ITIMER_REAL, self._patience_s)
        try:
            target.decode(data)
        except target.refusals as error:
            outcome.refused += 1
            answer = re.sub(r"[0-9]+|'.*?'", "", str(error))[:80]
        finally:
            if self._patience_s:
                signal.setitimer(signal.ITIMER_REAL, 0)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        took_s = time.perf_counter() - began_s
        outcome.slowest_s = max(outcome.slowest_s, took_s)
        outcome.peak_bytes = max(outcome.peak_bytes, peak)
        self._learn(data, answer)
        if peak > target.base_bytes + target.factor * len(data):
            raise FuzzError(f"{peak:,} bytes of memory for {len(data):,} bytes of input")
        if took_s > SLOWEST_S:
            raise FuzzError(f"{took_s:.1f} s for {len(data):,} bytes of input")

    def _learn(self, data: bytes, answer: str) -> None:
        """What is answered as nothing before leads to other parts of the decoder."""
        if answer not in self._answers:
            self._answers.add(answer)
            self.outcome.answers = len(self._answers)
            if len(self.specimens) < MOST_SPECIMENS and len(data) <= LONGEST_SPECIMEN:
                self.specimens.append(data)


def fuzz(
    name: str,
    target: Target,
    first_seed: int,
    *,
    seconds: float,
    cases: int = 200,
    small: int = 20,
    patience_s: float = 0.0,
) -> Outcome:
    """Fuzz one target for this time, and with at least so many cases.

    Args:
        cases: made by an ordinary generator.
        small: made by hypothesis.
    """
    meter = Meter(name, target, patience_s)
    outcome = meter.outcome
    began_s = time.monotonic()

    def passed() -> float:
        return (time.monotonic() - began_s) / seconds if seconds else 1.0

    try:
        for specimen in tuple(meter.specimens):
            meter.check(specimen)
        chance = Random(first_seed)
        while outcome.cases < cases or passed() < 1 - HYPOTHESIS_SHARE:
            meter.check(case(chance, meter.specimens, target.more))
        _with_hypothesis(meter, target, first_seed, small)
        while passed() < 1:
            first_seed += 1
            _with_hypothesis(meter, target, first_seed, small)
    except Exception as error:
        failed = _made_small(meter, meter.last, type(error))
        outcome.failure = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        outcome.case = failed.hex()
    outcome.seconds = round(time.monotonic() - began_s, 2)
    outcome.resident_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return outcome


def _with_hypothesis(meter: Meter, target: Target, number: int, cases: int) -> None:
    specimens = tuple(meter.specimens)

    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        print_blob=False,
    )
    @given(st.randoms(use_true_random=False))
    def attempt(chance: Random) -> None:
        meter.check(case(chance, specimens, target.more))

    attempt()


def _made_small(meter: Meter, data: bytes, kind: type[Exception]) -> bytes:
    """The case with all pieces left out without which it fails in the same way."""

    def fails(part: bytes) -> bool:
        try:
            meter.check(part)
        except Exception as error:
            return type(error) is kind
        return False

    piece, end_s = len(data) // 2, time.monotonic() + REDUCTION_S
    while piece:
        at = 0
        while at < len(data) and time.monotonic() < end_s:
            shorter = data[:at] + data[at + piece :]
            if fails(shorter):
                data = shorter
            else:
                at += piece
        piece //= 2
    return data


def main(argv: list[str]) -> int:
    """Fuzz what was asked for; 1 if anything failed."""
    options = _parser().parse_args(argv)
    memory = Path("/dev/shm")  # so many small files are written faster there
    where = memory if memory.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="flockwise-fuzz-", dir=where) as folder:
        known = targets(Path(folder))
        if options.target is not None and options.target not in known:
            print(f"no target {options.target!r}; there are: {', '.join(known)}", file=sys.stderr)
            return 2
        chosen = known if options.target is None else {options.target: known[options.target]}
        if options.case is not None:
            return _again(chosen, options.case)
        outcomes = []
        for name, target in chosen.items():
            seconds = 60 * options.minutes / len(chosen)
            outcome = _aside(name, target, options.seed, seconds)
            outcomes.append(outcome)
            if not options.json:
                print(as_line(outcome), flush=True)
    failed = [outcome for outcome in outcomes if outcome.failure]
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes]))
    else:
        total = sum(outcome.cases for outcome in outcomes)
        largest_mib = max(outcome.resident_mib for outcome in outcomes)
        print(f"{total:,} cases, {len(failed)} failures, {largest_mib} MiB resident at most")
        for outcome in failed:
            print(reproducer(outcome))
    return 1 if failed else 0


def _aside(name: str, target: Target, first_seed: int, seconds: float) -> Outcome:
    """Fuzz a target in a process of its own: it may be killed by what it does."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)

    def work() -> None:
        _guard()
        theirs.send(fuzz(name, target, first_seed, seconds=seconds, patience_s=4 * SLOWEST_S))

    process = context.Process(target=work)
    with warnings.catch_warnings():
        # Python 3.12 warns of forks beside threads; this one only decodes.
        warnings.simplefilter("ignore", DeprecationWarning)
        process.start()
    theirs.close()
    try:
        outcome: Outcome = ours.recv()
    except EOFError:
        outcome = Outcome(name, failure="its process was ended by what it decoded")
    process.join()
    return outcome


def as_line(outcome: Outcome) -> str:
    """A target for people: at most so much memory for one case."""
    taken = outcome.cases - outcome.refused
    return (
        f"{outcome.target:<37} {outcome.cases:>9,} cases {taken:>7,} taken {outcome.answers:>4}"
        f" answers {outcome.seconds:>6.1f} s {outcome.peak_bytes / 2**20:>6.2f} MiB"
        f" {outcome.resident_mib:>5} MiB resident"
        f" {outcome.failure or 'ok'}"
    )


def reproducer(outcome: Outcome) -> str:
    """The command that does it again; a long case goes into a file."""
    case = outcome.case
    if len(case) > LONGEST_SHOWN:
        path = Path(f"fuzz-{outcome.target.replace(' ', '-')}.hex")
        path.write_text(case)
        case = f"@{path}"
    return f'  python -m tests.fuzz --target "{outcome.target}" --case "{case}"'


def _again(chosen: dict[str, Target], case: str) -> int:
    ((name, target),) = chosen.items()
    text = Path(case[1:]).read_text() if case.startswith("@") else case
    Meter(name, target).check(bytes.fromhex(text))  # with its traceback, if it fails
    print(f"{name}: no failure")
    return 0


def _out_of_time(*_: object) -> None:
    raise FuzzError("it does not come to an end")


def _guard() -> None:
    """Bound what this process may take of memory, and let a case that does not end be ended."""
    signal.signal(signal.SIGALRM, _out_of_time)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM_BYTES, resource.RLIM_INFINITY))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0, help="for all targets together [10]")
    parser.add_argument("--seed", type=int, default=0, help="of the first batch of cases [0]")
    parser.add_argument("--target", help="fuzz this one alone")
    parser.add_argument("--case", help="decode these bytes once: hex, or @FILE; needs --target")
    parser.add_argument("--json", action="store_true", help="print the outcomes as JSON")
    return parser


if __name__ == "__main__":
    arguments: Any = sys.argv[1:]
    sys.exit(main(arguments))
