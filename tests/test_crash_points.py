"""A process is killed at each place where it does I/O, and started again: nothing is lost by that.

The list of places is read from the source (`tests/crash_points.py`). All of them take minutes, so
an ordinary run takes another part of them each day; `CRASHES=all` takes all (`make test-crashes`).
"""

from __future__ import annotations

import datetime
import itertools
import json
import os
import queue
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import pytest

from broker.start import RunningBroker
from tests.crash_points import Point, points, sites, unknown
from tests.crash_points import files as source_files
from tests.crash_scenarios import OUT_OF_REACH, SCENARIOS
from tests.processes import a_broker

Told = dict[str, Any]

ALL = os.environ.get("CRASHES") == "all"
DAY = datetime.date.today().toordinal()
SLICES = 16
AT_ONCE = 2 * (os.cpu_count() or 1)
ATTEMPTS = 6
pytestmark = pytest.mark.timeout(7200 if ALL else 600)
RUNS, TRAININGS = "crash_runs.py", "crash_training.py"


def test_every_call_that_bears_the_name_of_an_io_function_is_decided_on() -> None:
    assert not unknown(), "say in tests/crash_points.py whether these change or send anything"


def test_no_two_points_have_one_name() -> None:
    names = [point.name for point in points()]
    assert len(set(names)) == len(names)


def test_what_the_scenarios_name_is_there() -> None:
    named = {c.point for s in SCENARIOS.values() for c in (*s.first, *s.always)}
    assert named <= {point.name for point in points()}


def test_renames_are_made_by_what_forces_files_to_disk_alone() -> None:
    renames = {s.name for file in source_files() for s in sites(file) if s.does == "replace"}
    assert renames == {
        "federation/files.py write_file: part.replace",
        "federation/status_board.py StatusBoard._write: part.replace",  # no record of anything
        # With the same care, in directories that may be another user's.
        "federation/membership_files.py write_membership: part.replace",
        "federation/membership_files.py write_membership: directory.replace",
        "federation/membership_files.py settle: aside.replace",
    }


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBroker]:
    with a_broker("mosquitto", tmp_path_factory.mktemp("broker")) as running:
        yield running


@pytest.fixture(scope="module")
def undisturbed(
    broker: RunningBroker, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, int]]:
    """For each point the scenarios that come to it, and how often one process of theirs did."""
    reached: dict[str, dict[str, int]] = {}
    wanted = {point.name for point in _in_reach()}
    for attempt in range(ATTEMPTS):  # who comes first is chance, so not every run has everything
        missing = wanted - set(reached)
        if not missing:
            break
        directory = tmp_path_factory.mktemp(f"undisturbed-{attempt}")
        told = _do(RUNS, [_run(directory, broker, name, None) for name in SCENARIOS])
        assert not _faults(told)
        for one in told:
            for point, count in one["counts"].items():
                reached.setdefault(point, {})[one["scenario"]] = count
    return reached


def test_every_point_is_come_to(undisturbed: dict[str, dict[str, int]]) -> None:
    wanted = {point.name for point in _in_reach()}
    missing = "; ".join(sorted(wanted - set(undisturbed)))
    assert not missing, f"no scenario comes to these: {missing}"
    assert sorted(set(undisturbed) - wanted) == [], "these are not in the list, or are in reach"


@pytest.mark.parametrize("lossy", [False, True], ids=["process", "power"])
def test_a_role_killed_at_any_point_loses_nothing_and_doubles_nothing(
    lossy: bool,
    broker: RunningBroker,
    undisturbed: dict[str, dict[str, int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    began_s = time.monotonic()
    orders: list[Told] = []
    for point in points():
        if counts := undisturbed.get(point.name):
            name = _scenario_for(counts)
            for crash in _crashes(point, counts[name]):
                orders.append(_run(tmp_path, broker, name, crash, lossy))
    told = _do(RUNS, _chosen(orders))
    faults = _faults(told)
    missed = _missed(told)
    for _ in range(ATTEMPTS - 1):
        again = _do(RUNS, [_again(one, undisturbed[one["crash"]["point"]]) for one in missed])
        told += again
        faults += _faults(again)
        missed = _missed(again)
    _tell(capsys, f"killed by {'power' if lossy else 'SIGKILL'}", orders, told, began_s)
    if faults:
        pytest.fail(faults)  # whole: an assertion would shorten it
    assert not missed, "the crash never came"


def test_a_worker_killed_at_any_point_gives_the_same_bytes_in_the_end(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    began_s = time.monotonic()
    jobs = ("initialise", "train", "full")
    plain = _do(TRAININGS, [_training(tmp_path, job, None) for job in jobs])
    plain.sort(key=lambda one: jobs.index(one["job"]))
    reached = {point: one for one in reversed(plain) for point in one["counts"]}
    known = {point.name: point for point in _in_reach(of_worker=True)}
    assert set(reached) == set(known)
    orders = [
        _training(tmp_path, one["job"], crash)
        for name, one in reached.items()
        for crash in _crashes(known[name], one["counts"][name])
    ]
    told = _do(TRAININGS, _chosen(orders))
    _tell(capsys, "worker killed", orders, told, began_s)
    made = {one["job"]: one["made"] for one in plain}
    assert [one["crash"] for one in told if not one["hit"]] == []
    assert [one["crash"] for one in told if one["code"] != 0 or one["left"]] == []
    assert [one["crash"] for one in told if one["made"] != made[one["job"]]] == []


def _in_reach(*, of_worker: bool = False) -> list[Point]:
    """The points that the scenarios are to come to, or the jobs of a worker."""
    found = [point for point in points() if (point.role == "worker") == of_worker]
    return [p for p in found if not any(fnmatchcase(p.name, one) for one in OUT_OF_REACH)]


_numbers = itertools.count()


def _run(
    directory: Path, broker: RunningBroker, scenario: str, crash: Told | None, lossy: bool = False
) -> Told:
    place = directory / f"run-{next(_numbers)}"  # it is the name of a federation too
    run = {"directory": str(place), "port": broker.port, "scenario": scenario}
    return {**run, "crash": crash, "lossy": lossy}


def _training(directory: Path, job: str, crash: Told | None) -> Told:
    return {"directory": str(directory / f"{next(_numbers)}"), "job": job, "crash": crash}


def _scenario_for(counts: dict[str, int]) -> str:
    """The first that comes to a point, unless it seems to do so by chance."""
    first = next(name for name in SCENARIOS if name in counts)
    surest = max(counts, key=lambda name: counts[name])
    return surest if counts[surest] > 2 * counts[first] else first


def _crashes(point: Point, count: int) -> Iterator[Told]:
    """The first, the second and the last but one time that a process comes to a point."""
    for moment in point.moments:
        for hit in sorted({1, min(2, count), max(1, count - 1)}):
            yield {"role": point.role, "point": point.name, "moment": moment, "hit": hit}


def _chosen(orders: list[Told]) -> list[Told]:
    shuffled = random.Random(0).sample(orders, len(orders))
    return shuffled if ALL else shuffled[DAY % SLICES :: SLICES]


def _faults(told: list[Told]) -> str:
    bad = [one for one in told if one["fault"]]
    lines = [f"{one['scenario']} {one['crash']}: {one['fault']}" for one in bad]
    return "\n".join([*lines, *(one["logs"] for one in bad[:2])])


def _missed(told: list[Told]) -> list[Told]:
    """Crashes that did not come though they were to come at the first occasion."""
    keys = ("directory", "port", "scenario", "crash", "lossy")
    return [
        {key: one[key] for key in keys}
        for one in told
        if not one["fault"] and not one["hit"] and one["crash"]["hit"] == 1
    ]


def _again(one: Told, counts: dict[str, int]) -> Told:
    """The same crash in the next scenario that comes to its point: some do so by chance."""
    names = sorted(counts, key=lambda name: -counts[name])
    after = names[(names.index(one["scenario"]) + 1) % len(names)]
    return {**one, "scenario": after, "directory": one["directory"] + "-again"}


def _tell(
    capsys: pytest.CaptureFixture[str],
    what: str,
    orders: list[Told],
    told: list[Told],
    began_s: float,
) -> None:
    every = len({(o["crash"]["point"], o["crash"]["moment"]) for o in orders})
    hit = len({(o["crash"]["point"], o["crash"]["moment"]) for o in told if o.get("hit")})
    lost = sum(one.get("lost", 0) for one in told)
    with capsys.disabled():
        print(
            f"\n{what}: {len({o['crash']['point'] for o in orders})} points, at {hit} of {every} "
            f"moments of theirs, in {len(told)} runs (part {'all' if ALL else DAY % SLICES} of "
            f"{SLICES}), {(time.monotonic() - began_s) / 60:.1f} minutes"
            + (f"; {lost} writes and names lost" if lost else "")
        )


def _do(program: str, orders: list[Told]) -> list[Told]:
    """Have some processes do these, each one after another."""
    waiting: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
    workers = min(AT_ONCE, 1 + len(orders) // 4)  # each takes its time to import everything
    for order in (*orders, *[None] * workers):
        waiting.put(order)
    told: list[Told] = []

    def work() -> None:
        with subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name(program))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            for order in iter(waiting.get, None):
                process.stdin.write(json.dumps(order) + "\n")
                process.stdin.flush()
                told.append(json.loads(process.stdout.readline()))
            process.stdin.close()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(told) == len(orders), "a process that does runs has ended"
    return told
