"""Where a simulation's trainings are computed: in order, and never with another result."""

from __future__ import annotations

import os
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from config.failures import Failure
from config.sections import TrainingPlan
from experiments.simulation.bench import Bench, Evaluate, Job, Train, World, lay_out
from experiments.simulation.engine import EngineEnded, Queue, inline_engine, local_engine
from experiments.simulation.training import Workbench
from learning.data import as_chunk, device_chunk
from learning.generated import generated_images
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

PLAN = TrainingPlan(model="tutorial-cnn", batch_size=8, augment=False)
IMAGES = generated_images(train=60, test=30, seed=0)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    parts = np.split(np.arange(60), 3)
    chunks = [device_chunk(IMAGES, part[:16], part[16:]) for part in parts]
    return lay_out(tmp_path_factory.mktemp("world"), chunks, 60, as_chunk(IMAGES), PLAN)


def trainings(world: World) -> list[Train]:
    received = Workbench(PLAN).first
    return [Train(device, received, PLAN, seed=device) for device in (0, 1, 2, 0)]


def test_a_device_trains_on_its_own_images(world: World) -> None:
    bench = Bench(world.load())
    for index in range(3):
        data = bench.device(index)
        wanted = IMAGES.train_images[20 * index : 20 * index + 20].transpose(0, 2, 3, 1)
        assert np.array_equal(data.train_images.numpy(), wanted[:16])
        assert np.array_equal(data.held_out_images.numpy(), wanted[16:])
        assert np.array_equal(
            data.held_out_labels.numpy(), IMAGES.train_labels[20 * index + 16 :][:4]
        )
    assert len(bench.tests().held_out_labels) == 30


def test_processes_give_the_same_bytes_as_this_one(world: World) -> None:
    with inline_engine(world) as engine:
        here = [engine.submit(job, 0.0).result() for job in trainings(world)]
        tested = engine.submit(Evaluate(Workbench(PLAN).first), 0.0).result()
    with local_engine(world, 2) as pool:
        pending = [pool.submit(job, float(due)) for due, job in enumerate(trainings(world))]
        there = [one.result() for one in pending]
        assert pool.submit(Evaluate(Workbench(PLAN).first), 0.0).result() == tested
    assert [one.delta.tobytes() for one in here] == [one.delta.tobytes() for one in there]
    assert [one.metrics for one in here] == [one.metrics for one in there]
    assert here[0].delta.tobytes() == here[3].delta.tobytes() != here[1].delta.tobytes()
    assert here[0].metrics["held_out_accuracy"] >= 0


def test_a_training_stops_after_the_steps_that_its_time_allows(world: World) -> None:
    bench, first = Bench(world.load()), Workbench(PLAN).first
    whole, cut = (Train(0, first, PLAN, 0, steps) for steps in (None, 1))
    assert (whole.do(bench).steps, cut.do(bench).steps) == (2, 1)
    assert cut.do(bench).examples == 8


def test_a_training_that_leaves_the_finite_numbers_is_told_in_one_line(world: World) -> None:
    wild = PLAN.model_copy(update={"learning_rate": 100.0, "epochs": 30})
    with local_engine(world, 1) as pool:
        pending = pool.submit(Train(0, Workbench(PLAN).first, wild, 0), 0.0)
        with pytest.raises(Failure, match="diverged"):
            pending.result()


@dataclass(frozen=True)
class _Death:
    def do(self, bench: Bench) -> None:
        os._exit(3)


def test_a_process_that_dies_ends_all_that_waits_in_one_line(world: World) -> None:
    with local_engine(world, 1) as pool:
        pending = [pool.submit(job, 1.0) for job in trainings(world)]
        for one in (
            pool.submit(_Death(), 0.0),
            *pending,
            *map(pool.submit, trainings(world), [9.0]),
        ):
            with suppress(Failure):
                one.result()
        with pytest.raises(EngineEnded, match="ended unexpectedly"):
            pool.submit(trainings(world)[0], 2.0).result()


class Launcher:
    """Does a job when it is told to."""

    def __init__(self) -> None:
        self.begun: list[tuple[Any, Future[Any]]] = []

    def __call__(self, job: Job[Any]) -> Future[Any]:
        future: Future[Any] = Future()
        self.begun.append((job, future))
        return future

    def end(self, index: int) -> None:
        job, future = self.begun[index]
        future.set_result(job)


def job(name: str) -> Any:
    return name


def test_what_is_due_first_is_done_first() -> None:
    launcher = Launcher()
    queue = Queue(launcher, 1)
    pending = {name: queue.submit(job(name), due) for name, due in (("a", 5), ("b", 9), ("c", 7))}
    for index in range(3):
        launcher.end(index)
    assert [name for name, _ in launcher.begun] == ["a", "c", "b"]
    assert {name: one.result() for name, one in pending.items()} == {"a": "a", "b": "b", "c": "c"}


def test_what_was_given_up_before_its_time_is_never_computed() -> None:
    launcher = Launcher()
    queue = Queue(launcher, 1)
    first, second, third = (queue.submit(job(name), due) for due, name in enumerate("abc"))
    second.cancel()
    first.cancel()  # it is under way: nothing comes of it
    launcher.end(0)
    launcher.end(1)
    assert [name for name, _ in launcher.begun] == ["a", "c"]
    assert third.result() == "c"


def test_no_more_are_under_way_than_there_are_hands() -> None:
    launcher = Launcher()
    queue = Queue(launcher, 2)
    for name in "abcd":
        queue.submit(job(name), 0.0)
    assert len(launcher.begun) == 2
    launcher.end(1)
    assert [name for name, _ in launcher.begun] == ["a", "b", "c"]


def test_what_a_closed_pool_gives_up_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    launcher = Launcher()
    queue = Queue(launcher, 1)
    pending = queue.submit(job("a"), 0.0)
    _, begun = launcher.begun[0]
    assert begun.cancel()
    with pytest.raises(CancelledError):
        pending.result()
    assert not caplog.records
