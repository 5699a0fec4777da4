"""From settings and images to a simulated federation, and from what it tells to a summary."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from config.failures import ExitCode, Failure
from config.sections import TrainingPlan
from config.settings import CoordinatorSettings
from config.simulation import SimulationSettings
from coordinator import vocabulary as cv
from coordinator.tally import Tally
from experiments.simulation.assignment import Assignment, Begin
from experiments.simulation.bench import Evaluate, Share, Train, World, lay_out
from experiments.simulation.coordinator import Test
from experiments.simulation.device import DeviceModel
from experiments.simulation.engine import Engine, EngineEnded, inline_engine, local_engine
from experiments.simulation.federation import Course, Simulation
from experiments.simulation.fleet import Pace, presence, slowness
from experiments.simulation.ray_engine import ray_engine
from experiments.simulation.training import Workbench
from federation.compression import Vector
from federation.loopback import Faults
from learning.data import ImageSet, evaluation_chunk
from learning.outcomes import findings
from learning.partition import Cut, partition
from learning.partition_chunks import device_chunks
from learning.runtime import prepare_torch

# A row of reports.jsonl, with virtual seconds.
OnRow: TypeAlias = Callable[[dict[str, Any]], None]
# The virtual time, in seconds.
Clock: TypeAlias = Callable[[], float]
# How long each training of a device takes, of this name and this pace.
Timing: TypeAlias = Callable[[str, Pace, Clock], Callable[[TrainingPlan], float]]


def by_pace(name: str, pace: Pace, clock: Clock) -> Callable[[TrainingPlan], float]:
    """As the device's pace says."""
    return pace.duration_s


@dataclass(frozen=True, slots=True)
class Cast:
    """Who takes part: names, shares of the images, labels int64[n, c], slowness Float64[n]."""

    names: tuple[str, ...]
    shares: tuple[Share, ...]
    labels: npt.NDArray[np.int64]
    slowness: npt.NDArray[np.float64]


def cast(settings: SimulationSettings, world: World, classes: int) -> Cast:
    """The devices of a simulation: the same settings and images, the same devices."""
    labels = world.load().labels
    counts = np.stack(
        [
            np.bincount(labels[share.start : share.start + share.train], minlength=classes)
            for share in world.shares
        ]
    )
    slow = slowness(settings.fleet, counts, seed=settings.seed)
    return Cast(device_names(settings.devices), world.shares, counts, slow)


def device_names(devices: int) -> tuple[str, ...]:
    """What so many devices are called."""
    width = max(2, len(str(devices - 1)))
    return tuple(f"device-{index:0{width}d}" for index in range(devices))


@dataclass(slots=True)
class Story:
    """What a simulation told, and what it came to."""

    cast: Cast
    course: Course
    rows: list[dict[str, Any]] = field(default_factory=list)
    traffic: tuple[int, int] = (0, 0)
    crashes: int = 0
    wall_s: float = 0.0


def simulate(
    settings: SimulationSettings,
    images: ImageSet,
    on_row: OnRow,
    enough: Callable[[], bool] = lambda: False,
    timing: Timing = by_pace,
    cut: Cut = partition,
) -> Story:
    """Let a federation happen.

    Args:
        on_row: told each row as it comes about.
        enough: asked at each moment; whether to end before the settings say so.
        timing: how long trainings take, where it was measured.
        cut: who gets which images, where another's cut is to be followed.

    Raises:
        Failure: the settings do not hold together, or a process of the engine ended.
    """
    began_s = time.monotonic()
    prepare_torch(1)
    rows: list[dict[str, Any]] = []
    with world_of(settings, images, cut) as world, engine_of(settings, world) as engine:
        who = cast(settings, world, len(images.class_names))
        simulation = _simulation(settings, who, engine, images.class_names, timing)
        tally = Tally()

        def tell(at_s: float, report: cv.Report) -> None:
            row = tally.take({"kind": report.kind, "time_s": round(at_s, 3), **report.facts})
            rows.append(row)
            on_row(row)

        simulation.coordinator.on_report = tell
        reached = _target(settings, simulation)
        course = simulation.run(settings.limit_s, lambda: reached() or enough())
        sent, received = np.sum([device.traffic for device in simulation.devices], axis=0)
        crashes = sum(device.crashes for device in simulation.devices)
    return Story(who, course, rows, (int(sent), int(received)), crashes, time.monotonic() - began_s)


def coordinator_settings(settings: SimulationSettings) -> CoordinatorSettings:
    """What the coordinator of this simulation is told."""
    plan = settings.training.model_copy(update={"seed": settings.seed})
    return CoordinatorSettings(
        strategy=settings.strategy,
        test_set=Path("simulated"),
        evaluate_every=settings.evaluate_every,
        versions=settings.versions,
        keep_versions=max(2, settings.transfer.slots, settings.aggregation.max_staleness + 1),
        transfer=settings.transfer,
        aggregation=settings.aggregation,
        standing=settings.standing,
        training=plan,
    )


def _simulation(
    settings: SimulationSettings,
    who: Cast,
    engine: Engine,
    class_names: tuple[str, ...],
    timing: Timing,
) -> Simulation:
    fleet, told = settings.fleet, coordinator_settings(settings)
    workbench = Workbench(told.training)
    devices = []

    def clock() -> float:
        return simulation.time.now_s

    for index, name in enumerate(who.names):
        share = who.shares[index]
        chance = random.Random(f"{settings.seed} {name}")
        pace = Pace(fleet, float(who.slowness[index]), share.train, chance)
        devices.append(
            DeviceModel(
                name,
                _trainings(engine, index, pace),
                timing(name, pace, clock),
                presence(fleet, random.Random(f"{settings.seed} presence {name}")),
                fleet.crash,
                fleet.reboot_s,
                fleet.bandwidth,
            )
        )
    faults = Faults(delay_s=(fleet.latency_s, fleet.latency_s))
    simulation = Simulation(
        told,
        workbench.first,
        workbench.layout,
        devices,
        _tests(engine, class_names),
        seed=settings.seed,
        faults=faults,
    )
    return simulation


def _trainings(engine: Engine, index: int, pace: Pace) -> Begin:
    def begin(assignment: Assignment, due_s: float) -> Any:
        plan = assignment.header.plan
        steps = pace.steps(plan)
        job = Train(index, assignment.received, plan, assignment.seed, steps)
        return engine.submit(job, due_s)

    return begin


def _tests(engine: Engine, class_names: tuple[str, ...]) -> Test:
    def test(version: int, model: Vector, due_s: float) -> Callable[[], cv.Evaluated]:
        pending = engine.submit(Evaluate(model, class_names), due_s)

        def figures() -> cv.Evaluated:
            try:
                tested = pending.result()
            except EngineEnded:
                raise
            except Failure as failure:
                return cv.Evaluated(version, {}, failure.message)
            return cv.Evaluated(version, dict(tested.metrics), findings=findings(tested))

        return figures

    return test


def _target(settings: SimulationSettings, simulation: Simulation) -> Callable[[], bool]:
    target, tested = settings.target, simulation.coordinator.tested

    def reached() -> bool:
        if target is None or not tested:
            return False
        return next(reversed(tested.values())).get("accuracy", 0.0) >= target

    return reached


@contextmanager
def world_of(
    settings: SimulationSettings, images: ImageSet, cut: Cut = partition
) -> Iterator[World]:
    """What the processes of a simulation share, for as long as this lasts."""
    chunks = device_chunks(
        images, settings.devices, settings.partition, seed=settings.seed, cut=cut
    )
    plan, total = coordinator_settings(settings).training, len(images.train_labels)
    with TemporaryDirectory(prefix="flockwise-simulation-") as folder:
        try:
            world = lay_out(Path(folder), chunks, total, evaluation_chunk(images), plan)
        except OSError as error:
            raise Failure(
                ExitCode.CANNOT_WRITE,
                f"no room for the images in {gettempdir()}: {error.strerror};"
                " name another directory with TMPDIR",
            ) from None
        yield world


@contextmanager
def engine_of(settings: SimulationSettings, world: World) -> Iterator[Engine]:
    """What computes its trainings, as the settings choose."""
    match settings.engine:
        case "inline":
            with inline_engine(world) as inline:
                yield inline
        case "local":
            with local_engine(world, settings.workers) as local:
                yield local
        case "ray":
            with ray_engine(world, settings.workers, settings.ray_address) as cluster:
                yield cluster
