"""The simulator tells the truth: what real processes do, it does, to the last bit.

A federation of real processes is watched; the same one in virtual time is told how long each
training took, and has to say what each version is made of, and the last one to the last bit. Only
where the machine was so busy that the time beside the trainings mattered, it is also told when each
update arrived; and where two of them came so close that their order is chance, the test says so.
"""

from __future__ import annotations

import random
import sqlite3
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from config.failures import ExitCode
from config.sections import TrainingPlan
from config.settings import CoordinatorSettings
from config.simulation import Fleet
from experiments.simulation.assignment import Assignment, Trained, Work, lazily
from experiments.simulation.coordinator import at_once
from experiments.simulation.device import DeviceModel
from experiments.simulation.federation import Course, Simulation
from experiments.simulation.fleet import Pace
from learning.vectors import layout_of, vector_of
from tests.processes import Role, a_broker, a_coordinator, an_agent
from tests.timed_task import TimedTask, a_timed_chunk, trained_model

TASK = "tests.timed_task:TimedTask"
SEED = 5
EXAMPLES = {"one": 100, "two": 250, "three": 30}
# What comes closer together than this may come the other way round the next time.
CLOSE_S = 0.15
# A machine that takes no longer for anything beside the trainings has to be foretold.
QUIET_S = 0.15

# In virtual time version 0 is published somewhat earlier.
BEGINS_S = 1.0
# What a training takes of which nothing came.
NEVER_S = 1e6

# Device, sequence, base version: what a version is made of, in the order in which it is summed.
Parts = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Case:
    """A federation: how versions are made, how many, and how long each device trains.

    No two updates are due at the same time, nor within a share of a second.
    """

    strategy: str
    versions: int
    seconds: tuple[float, float, float]
    aggregation: Mapping[str, Any]

    @property
    def train_s(self) -> dict[str, float]:
        return dict(zip(EXAMPLES, self.seconds, strict=True))

    def settings(self) -> dict[str, Any]:
        """What coordinators are told, the real one and the virtual one."""
        return {
            "strategy": self.strategy,
            "task": TASK,
            "versions": self.versions,
            "transfer": {"chunk_bytes": 1024},
            "training": {"seed": SEED},
            "aggregation": {"wait_for": 3, "cooldown": 0, "deadline_s": None, **self.aggregation},
        }


UNEVEN = (1.4, 2.8, 7.7)  # the third is in the third version, two versions late
CASES = {
    "fedbuff": Case("fedbuff", 4, UNEVEN, {"buffer_size": 2}),
    "memory": Case("memory", 4, UNEVEN, {"buffer_size": 2}),
    "fedavg": Case("fedavg", 3, (0.9, 1.8, 2.7), {}),
    # The third is never done in time, and begins anew.
    "fedavg of the fastest": Case("fedavg", 3, (1.2, 2.4, 4.2), {"over_selection": 1.5}),
    "fedasync": Case("fedasync", 6, (1.8, 4.5, 6.3), {}),
}


@dataclass(frozen=True, slots=True)
class Training:
    """When its model was there, and when what came of it was accepted, if others were not faster.

    Both in seconds since version 0 was published.
    """

    began_s: float
    accepted_s: float | None

    @property
    def seconds(self) -> float | None:
        return None if self.accepted_s is None else self.accepted_s - self.began_s


@dataclass(frozen=True, slots=True)
class Happened:
    """What real processes did.

    Attributes:
        model: the bytes of the last version.
        made: what each version was made of.
        trainings: those of each device.
        gap_s: least time between two updates of different devices.
        announcing_s: longest time from a version's last update to its announcement.
    """

    model: bytes
    made: tuple[Parts, ...]
    trainings: Mapping[str, tuple[Training, ...]]
    gap_s: float
    announcing_s: float

    def lag_s(self, case: Case) -> float:
        """The longest that anything took beside the trainings, but for starting up."""
        beside = [
            one.seconds - case.train_s[device]
            for device, trainings in self.trainings.items()
            for one in trainings[1:]
            if one.seconds is not None
        ]
        return max(self.announcing_s, *beside)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_same_federation_in_virtual_time_comes_to_the_same_bytes(
    case: Case, tmp_path: Path
) -> None:
    happened = real(case, tmp_path)
    assert len(happened.made) == case.versions
    course = virtual(case, happened.trainings)
    if made_of(course) != happened.made and happened.lag_s(case) > QUIET_S:
        course = virtual(case, happened.trainings, by_arrival=True)
        chance_s = CLOSE_S + happened.announcing_s
        if made_of(course) != happened.made and happened.gap_s < chance_s:
            pytest.skip(
                f"too busy a machine: two updates came within {happened.gap_s:.2f} s, and within"
                f" {chance_s:.2f} s their order is chance"
            )
    assert made_of(course) == happened.made
    assert course.ended
    assert course.model.tobytes() == happened.model


def test_the_order_of_versions_is_told_before_anything_has_run() -> None:
    """What the case of FedBuff is there for: fresh updates and such as missed two versions."""
    course = virtual(CASES["fedbuff"], {})
    devices = [tuple(device for device, _, _ in parts) for parts in made_of(course)]
    assert devices == [("one", "two"), ("one", "two"), ("one", "three"), ("two", "one")]
    staleness = [part.staleness for made in course.history for part in made.contributions]
    assert staleness == [0, 0, 0, 0, 0, 2, 1, 0]


def test_the_first_training_of_a_device_takes_longer_as_it_has_to_start_up() -> None:
    fleet = Fleet(images_per_s=100, jitter=0, startup_s=5, overhead_s=2)
    pace = Pace(fleet, 1.0, 100, random.Random(0))
    seconds = [pace.duration_s(TrainingPlan(epochs=1)) for _ in range(3)]
    assert seconds == pytest.approx([8, 3, 3])


# In virtual time


def virtual(
    case: Case, measured: Mapping[str, tuple[Training, ...]], *, by_arrival: bool = False
) -> Course:
    """The federation in virtual time, of trainings that take as long as was measured.

    Args:
        by_arrival: rather of trainings that end when the update was accepted.
    """
    settings = CoordinatorSettings.model_validate(case.settings())
    model = TimedTask().build_model(settings.training)
    devices = [
        a_device(
            device,
            case.train_s[device],
            measured.get(device, ()),
            (lambda: simulation.time.now_s - BEGINS_S) if by_arrival else None,
        )
        for device in EXAMPLES
    ]
    untested = at_once(lambda version, model: {})
    simulation = Simulation(
        settings, vector_of(model), layout_of(model), devices, untested, seed=SEED
    )
    return simulation.run(limit_s=600)


def a_device(
    device: str,
    train_s: float,
    measured: tuple[Training, ...],
    clock: Callable[[], float] | None,
) -> DeviceModel:
    """A device whose trainings take what was measured; of more than those nothing is known."""
    trainings = iter(measured)

    def duration_s(plan: TrainingPlan) -> float:
        training = next(trainings, None)
        if training is None:
            return train_s
        if training.accepted_s is None or training.seconds is None:
            return NEVER_S
        if clock is None:
            return training.seconds
        return max(0.01, training.accepted_s - clock())

    return DeviceModel(device, lazily(work_of(device)), duration_s)


def work_of(device: str) -> Work:
    def work(assignment: Assignment) -> Trained:
        received = assignment.received
        delta = trained_model(received, assignment.seed, device) - received
        return Trained(delta, EXAMPLES[device], 1, {})

    return work


def made_of(course: Course) -> tuple[Parts, ...]:
    return tuple(
        tuple((part.id.device, part.id.sequence, part.base_version) for part in made.contributions)
        for made in course.history
    )


# By real processes


def real(case: Case, folder: Path) -> Happened:
    state, together = folder / "coordinator", len(EXAMPLES)
    with ExitStack() as running:
        broker = running.enter_context(a_broker("auto", folder / "broker"))
        coordinator = running.enter_context(a_coordinator(broker, state, **case.settings()))
        agents = {
            device: running.enter_context(
                an_agent(
                    broker,
                    folder / device,
                    a_timed_chunk(
                        folder,
                        device,
                        train_s=case.train_s[device],
                        examples=EXAMPLES[device],
                        together=together,
                    ),
                    device,
                    task=TASK,
                    outbox_limit=1,  # as simulated devices have it
                )
            )
            for device in EXAMPLES
        }
        assert coordinator.end() == ExitCode.OK, coordinator.raw
    return Happened(
        last_version(state, case.versions),
        made_in(state),
        {device: trainings_of(device, agent, coordinator) for device, agent in agents.items()},
        least_gap_s(coordinator),
        longest_announcement_s(coordinator),
    )


def last_version(state: Path, version: int) -> bytes:
    tensors = load_file(state / "versions" / f"{version:06}.safetensors")
    names = [name for name, _ in layout_of(TimedTask().build_model(TrainingPlan())).to_wire()]
    return b"".join(tensors[name].tobytes() for name in names)


def made_in(state: Path) -> tuple[Parts, ...]:
    """What the ledger says that versions are made of."""
    ledger = sqlite3.connect(state / "ledger.sqlite")
    rows = ledger.execute(
        "SELECT version, device, sequence, base_version FROM contributions"
        " JOIN updates USING (entry) ORDER BY version, position"
    ).fetchall()
    ledger.close()
    made: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for version, *part in rows:
        made[version].append(tuple(part))
    return tuple(tuple(made[version]) for version in sorted(made))


def trainings_of(device: str, agent: Role, coordinator: Role) -> tuple[Training, ...]:
    began_s = coordinator.told("version published")[0]["time"]
    accepted_s = {
        line["base_version"]: line["time"] - began_s
        for line in coordinator.told("update accepted")
        if line["device"] == device
    }
    return tuple(
        Training(line["time"] - began_s, accepted_s.get(line["version"]))
        for line in agent.told("version fetched")
    )


def least_gap_s(coordinator: Role) -> float:
    """Between two updates of different devices."""
    lines = coordinator.told("update accepted")
    gaps = [
        after["time"] - before["time"]
        for before, after in pairwise(lines)
        if after["device"] != before["device"]
    ]
    return min(gaps)


def longest_announcement_s(coordinator: Role) -> float:
    """From the last update of a version to its announcement."""
    heard = [line for line in coordinator.lines if line["text"] in ACCEPTED_OR_PUBLISHED]
    return max(
        after["time"] - before["time"]
        for before, after in pairwise(heard)
        if (before["text"], after["text"]) == ACCEPTED_OR_PUBLISHED
    )


ACCEPTED_OR_PUBLISHED = ("update accepted", "version published")
