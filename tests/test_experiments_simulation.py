"""A federation in virtual time, with the real cores: the same seed, the same bytes; and attacks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from config.settings import CoordinatorSettings
from experiments.attacks.catalogue import ATTACKS, NONE
from experiments.attacks.rows import Row
from experiments.attacks.rules import rule_of
from experiments.attacks.scheme import Scheme
from experiments.attacks.world import run, warmed_up
from experiments.simulation.assignment import Assignment, Trained, lazily
from experiments.simulation.coordinator import at_once
from experiments.simulation.device import DeviceModel
from experiments.simulation.federation import Course, Simulation
from federation.compression import CODECS, Vector
from federation.layout import Layout, TensorSpec
from federation.loopback import Faults
from learning.chunks import Images, Labels
from learning.data import ImageSet
from learning.outcomes import DivergenceError
from tests.one_thread import one_thread  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 600
LAYOUT = Layout((TensorSpec("w", (20, 30)),))
NO_FAULTS = Faults()
START = np.zeros(SIZE, np.float32)


def towards(goal: float) -> DeviceModel:
    """A device whose training goes half of the way to a goal, and takes as long as it is far."""

    def work(assignment: Assignment) -> Trained:
        return Trained((np.float32(goal) - assignment.received) / 2, 10, 5, {"loss": 1.0})

    return DeviceModel(f"device-{goal:g}", lazily(work), lambda header: 5.0 + goal)


def settings(versions: int = 6, **aggregation: object) -> CoordinatorSettings:
    return CoordinatorSettings.model_validate(
        {
            "versions": versions,
            "transfer": {"chunk_bytes": 1024},
            "training": {"codec": "float32"},
            "aggregation": {"buffer_size": 2, "combine": "mean", "wait_for": 3, **aggregation},
        }
    )


def course(
    devices: list[DeviceModel], seed: int = 0, faults: Faults = NO_FAULTS, limit_s: float = 3600
) -> Course:
    simulation = Simulation(
        settings(),
        START,
        LAYOUT,
        devices,
        at_once(lambda version, model: {}),
        seed=seed,
        faults=faults,
    )
    return simulation.run(limit_s)


UNTESTED = at_once(lambda version, model: {})
THREE = [towards(1.0), towards(2.0), towards(3.0)]


def test_a_federation_makes_the_versions_that_were_asked_for_and_ends() -> None:
    went = course(THREE)
    assert went.ended
    assert [made.version for made in went.history] == [1, 2, 3, 4, 5, 6]
    assert 1.0 < float(went.model.mean()) < 3.0
    assert not went.refused


def test_no_update_is_in_two_versions_and_no_device_twice_in_one() -> None:
    went = course(THREE)
    ids = [part.id for made in went.history for part in made.contributions]
    assert len(set(ids)) == len(ids) == 12
    for made in went.history:
        assert len({part.id.device for part in made.contributions}) == len(made.contributions)


def test_the_same_seed_gives_the_same_bytes() -> None:
    faults = Faults(loss=0.05, duplication=0.05, delay_s=(0.01, 2.0))
    one, other = (course(THREE, seed=7, faults=faults) for _ in range(2))
    assert one.model.tobytes() == other.model.tobytes()
    assert one.history == other.history
    assert one.seconds == other.seconds


def test_a_lossy_network_does_not_keep_a_federation_from_its_end() -> None:
    assert course(THREE, faults=Faults(loss=0.2, duplication=0.1, cut=0.01)).ended


def test_a_device_that_never_learns_does_not_keep_the_others() -> None:
    def fail(assignment: Assignment) -> Trained:
        raise DivergenceError("of a test")

    went = course([*THREE, DeviceModel("device-bad", lazily(fail), lambda header: 1.0)])
    assert went.ended
    devices = {part.id.device for made in went.history for part in made.contributions}
    assert "device-bad" not in devices


def test_a_federation_of_nobody_comes_to_its_limit() -> None:
    went = course([], limit_s=100.0)
    assert not went.ended
    assert went.model.tobytes() == START.tobytes()


def test_versions_are_tested_as_the_settings_say() -> None:
    told: list[tuple[int, float]] = []

    def test(version: int, model: Vector) -> dict[str, float]:
        told.append((version, float(model[0])))
        return {"accuracy": 0.5}

    rule = settings().model_copy(update={"test_set": Path("test.npz"), "evaluate_every": 2})
    went = Simulation(rule, START, LAYOUT, THREE, at_once(test)).run(3600)
    assert [version for version, _ in told] == [2, 4, 6]
    assert told[-1][1] == float(went.model[0])
    assert went.tested == {2: {"accuracy": 0.5}, 4: {"accuracy": 0.5}, 6: {"accuracy": 0.5}}


# Codecs


def coded(codec: str, model_codec: str = "float32", memory: bool = False) -> Course:
    """Three devices that all learn one random model, by a share of what they miss of it.

    With topk it is a small one: what waits in a residual must not be learned many times over.
    """
    share, versions, within = (0.02, 250, 0.2) if codec == "topk" else (0.5, 24, 0.1)
    goal = np.random.default_rng(1).standard_normal(SIZE).astype(np.float32)

    def work(assignment: Assignment) -> Trained:
        return Trained((goal - assignment.received) * np.float32(share), 10, 5, {"loss": 1.0})

    devices = [
        DeviceModel(f"device-{n}", lazily(work), lambda header, n=n: 5.0 + n)  # type: ignore[misc]
        for n in range(3)
    ]
    wanted = {
        **settings().model_dump(),
        "training": {"codec": codec, "memory": memory},
        "transfer": {"chunk_bytes": 1024, "model_codec": model_codec},
        "versions": versions,
    }
    rule = CoordinatorSettings.model_validate(wanted)
    simulation = Simulation(rule, START, LAYOUT, devices, UNTESTED, seed=0)
    went = simulation.run(36_000)
    assert went.ended
    assert not went.refused
    assert float(np.linalg.norm(went.model - goal)) < within * float(np.linalg.norm(goal))
    return went


@pytest.mark.parametrize("codec", CODECS)
def test_in_each_codec_a_federation_learns_what_there_is_to_learn(codec: str) -> None:
    coded(codec)


@pytest.mark.parametrize("codec", CODECS)
def test_and_with_a_memory_on_devices(codec: str) -> None:
    coded(codec, memory=True)


@pytest.mark.parametrize("codec", ["bf16", "int8"])
def test_and_with_a_model_that_is_rounded_on_its_way_down(codec: str) -> None:
    coded("int8", codec)


@pytest.mark.parametrize("codec", ["int8", "int4"])
def test_entropy_coding_changes_the_bytes_and_not_the_model(codec: str) -> None:
    assert coded(codec).model.tobytes() == coded(f"{codec}+zlib").model.tobytes()


# Real training, and attacks


def flat_images(count: int, seed: int) -> tuple[Images, Labels]:
    """Images of one colour each, with noise: the classes are the corners of the cube."""
    chance = np.random.default_rng(seed)
    labels = np.arange(count, dtype=np.int64) % 8
    colours = 40 + 175 * (np.arange(8)[:, None] >> np.arange(3) & 1)
    images = colours[labels][:, :, None, None] + chance.normal(0, 10, (count, 3, 32, 32))
    return np.clip(images, 0, 255).astype(np.uint8), labels


@pytest.fixture(scope="module")
def images() -> ImageSet:
    names = tuple(f"colour-{index}" for index in range(8))
    return ImageSet(
        *flat_images(600, 1), *flat_images(100, 2), names, source="colours", generated=True
    )


EASY = Scheme(
    devices=10,
    alpha=100.0,
    warm_up=0,
    versions=8,
    training={"model": "tutorial-cnn", "epochs": 2, "batch_size": 8, "learning_rate": 0.05},
)


def row(attack: str, rule: str, images: ImageSet, scheme: Scheme = EASY) -> Row:
    return run(scheme, ATTACKS[attack], rule_of(rule), 0, images, None)


def test_an_attack_spoils_the_mean_and_a_robust_rule_withstands_it(images: ImageSet) -> None:
    assert row(NONE, "mean", images).accuracy > 0.8
    spoilt = row("ipm-100", "mean", images)
    assert spoilt.accuracy < 0.4
    assert spoilt.hostile_updates > 0
    withstood = row("ipm-100", "multi_krum", images)
    assert withstood.accuracy > 0.8
    assert withstood.hostile_left_out > withstood.left_out / 2


def test_the_same_run_gives_the_same_row(images: ImageSet) -> None:
    short = replace(EASY, versions=2)
    one, other = (row("min-max", "median", images, short) for _ in range(2))
    assert replace(one, cpu_s=0.0) == replace(other, cpu_s=0.0)


def test_an_honest_past_is_the_same_each_time_and_another_for_another_seed(
    images: ImageSet,
) -> None:
    past = replace(EASY, warm_up=2)
    start = warmed_up(past, 0, images)
    assert start.tobytes() == warmed_up(past, 0, images).tobytes()
    assert start.tobytes() != warmed_up(past, 1, images).tobytes()
