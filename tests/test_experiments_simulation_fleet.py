"""What simulated devices are like: how fast, and when they are there."""

from __future__ import annotations

import random
from itertools import islice

import numpy as np
import pytest

from config.sections import TrainingPlan
from config.simulation import Fleet
from experiments.simulation.fleet import DAY_S, FASTEST, Pace, presence, slowness, stragglers

EVEN = np.full((1000, 10), 10)


def fleet(**values: object) -> Fleet:
    return Fleet.model_validate(values)


@pytest.mark.parametrize("speed", ["equal", "half_normal", "lognormal"])
def test_the_median_device_is_the_typical_one(speed: str) -> None:
    times = slowness(fleet(speed=speed), EVEN, seed=1)
    assert times.shape == (1000,)
    assert np.median(times) == pytest.approx(1, rel=0.12)
    assert times.min() >= FASTEST or speed == "lognormal"


def test_speeds_follow_the_seed() -> None:
    rule = fleet(speed="lognormal", stragglers=0.2)
    assert np.array_equal(slowness(rule, EVEN, seed=3), slowness(rule, EVEN, seed=3))
    assert not np.array_equal(slowness(rule, EVEN, seed=3), slowness(rule, EVEN, seed=4))


def test_half_of_the_half_normal_are_within_its_median() -> None:
    times = slowness(fleet(speed="half_normal"), EVEN, seed=0)
    assert 0.45 < np.mean(times < 1) < 0.55
    assert 0.03 < np.mean(times > 1.96 / 0.6745) < 0.08


def test_stragglers_are_so_many_times_slower() -> None:
    rule = fleet(stragglers=0.1, straggler_factor=20)
    times = slowness(rule, EVEN, seed=0)
    assert sorted(set(times)) == [1, 20]
    assert np.sum(times == 20) == 100
    assert np.array_equal(np.flatnonzero(times == 20), stragglers(rule, EVEN, seed=0))


def test_stragglers_tied_to_labels_are_those_who_hold_them() -> None:
    labels = np.zeros((10, 10), np.int64)
    labels[:, 5] = 100
    labels[[2, 7], 0] = 50
    labels[[2, 7], 5] = 0
    rule = fleet(stragglers=0.2, straggler_labels=2)
    assert stragglers(rule, labels, seed=9).tolist() == [2, 7]


def test_a_training_takes_as_long_as_its_images() -> None:
    pace = Pace(fleet(images_per_s=50, jitter=0), 2.0, 100, random.Random(0))
    assert pace.duration_s(TrainingPlan(epochs=3, batch_size=10)) == pytest.approx(12)
    assert pace.steps(TrainingPlan()) is None


def test_a_budget_of_time_bounds_the_steps() -> None:
    pace = Pace(fleet(images_per_s=50, jitter=0), 2.0, 100, random.Random(0))
    plan = TrainingPlan(epochs=3, batch_size=10, budget_s=1.0)
    assert pace.steps(plan) == 3  # 0.4 s each: it looks at its clock after the third
    assert pace.duration_s(plan) == pytest.approx(1.2)
    assert pace.steps(plan.model_copy(update={"budget_s": 1e6})) is None


def test_jitter_stays_within_its_bounds() -> None:
    pace = Pace(fleet(images_per_s=100, jitter=0.5), 1.0, 100, random.Random(0))
    times = [pace.duration_s(TrainingPlan(batch_size=10)) for _ in range(200)]
    assert 0.5 <= min(times) < 0.6
    assert 1.4 < max(times) <= 1.5


def test_most_devices_are_always_there() -> None:
    assert presence(fleet(), random.Random(0)) is None


def test_on_and_off_take_turns_with_their_means() -> None:
    rule = fleet(availability="on_off", on_s=100, off_s=300)
    first_there = []
    for seed in range(400):
        turns = presence(rule, random.Random(seed))
        assert turns is not None
        spans = list(islice(turns, 50))
        first_there.append(spans[0][0] > 0)
        assert all(there >= 0 and away > 0 for there, away in spans)
    assert 0.2 < np.mean(first_there) < 0.3
    assert np.mean([there for there, _ in spans[1:]]) == pytest.approx(100, rel=0.5)
    assert np.mean([away for _, away in spans]) == pytest.approx(300, rel=0.5)


def test_a_day_has_its_hours() -> None:
    rule = fleet(availability="day_night", hours=10, zones=24)
    for seed in range(50):
        turns = presence(rule, random.Random(seed))
        assert turns is not None
        spans = list(islice(turns, 4))
        assert [sum(span) for span in spans[1:]] == pytest.approx([DAY_S] * 3)
        assert sum(spans[0]) <= DAY_S
        assert [there for there, _ in spans[1:]] == [36_000] * 3
