"""What hostile devices send: each attack does what its paper says, on arrays that can be read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from experiments.attacks import forgery
from experiments.attacks.attackers import Onlooker, hostile_work
from experiments.attacks.catalogue import ATTACKS, Attack, Situation
from experiments.attacks.poisoning import TARGET, backdoored, flipped_labels, with_trigger
from experiments.simulation.assignment import Assignment, Trained, Work
from federation.compression import Vector
from federation.layout import Layout, TensorSpec
from federation.messages import Header
from federation.transfer import manifest_of
from learning.training import TrainingPlan

HONEST = np.random.default_rng(0).normal(1.0, 0.5, (16, 400)).astype(np.float32)


def header() -> Header:
    layout = Layout((TensorSpec("w", (400,)),))
    return Header(
        ledger=b"ledger-1",
        version=3,
        slot=1,
        codec="float32",
        payload=manifest_of(bytes(1600), 1024),
        layout=tuple(layout.to_wire()),
        task="cifar10",
        plan=TrainingPlan(),
        max_staleness=20,
        invited=1.0,
    )


def assignment(device: str = "device-00") -> Assignment:
    return Assignment(device, header(), np.zeros(400, np.float32), 0)


def situation(**changes: object) -> Situation:
    values = {
        "honest": lambda: HONEST,
        "own": lambda: HONEST[0],
        "first": lambda: HONEST[1],
        "size": 400,
        "devices": 20,
        "attackers": 4,
        "chance": np.random.default_rng(0),
    }
    return Situation(**{**values, **changes})  # type: ignore[arg-type]


def distances(rows: forgery.Rows, point: Vector) -> Vector:
    found: Vector = np.linalg.norm(rows - point, axis=1)
    return found


def test_a_flipped_sign_is_turned_round_and_five_times_as_long() -> None:
    own = np.array([1.0, -2.0, 0.0], np.float32)
    assert forgery.sign_flip(own).tolist() == [-5.0, 10.0, 0.0]


def test_noise_has_its_deviation_about_zero() -> None:
    noise = forgery.gaussian(100_000, 200.0, np.random.default_rng(0))
    assert noise.dtype == np.float32
    assert abs(float(noise.mean())) < 3
    assert float(noise.std()) == pytest.approx(200, rel=0.02)


@pytest.mark.parametrize(
    # z of s = n/2 + 1 - m of n - m: 24 of 50 give s = 2, 24/26 lie below; 4 of 20: 9 of 16.
    ("devices", "attackers", "z"),
    [(50, 24, 1.426), (20, 4, 0.157), (20, 0, 0.0)],
)
def test_z_of_a_little_is_enough_is_that_of_the_paper(
    devices: int, attackers: int, z: float
) -> None:
    assert forgery.alie_deviations(devices, attackers) == pytest.approx(z, abs=1e-3)


def test_a_little_is_enough_stays_z_deviations_from_the_mean_in_every_coordinate() -> None:
    forged = forgery.alie(HONEST, 0.7)
    away = (HONEST.mean(axis=0) - forged) / HONEST.std(axis=0)
    assert np.allclose(away, 0.7, atol=1e-4)


@pytest.mark.parametrize("epsilon", [0.1, 100.0])
def test_the_inner_product_with_the_honest_mean_is_negative(epsilon: float) -> None:
    forged = forgery.inner_product(HONEST, epsilon)
    mean = HONEST.mean(axis=0)
    assert float(forged @ mean) < 0
    assert np.linalg.norm(forged) == pytest.approx(epsilon * np.linalg.norm(mean), rel=1e-4)


def test_min_max_is_no_farther_from_anyone_than_the_honest_are_from_each_other() -> None:
    forged = forgery.min_max(HONEST)
    widest = max(float(distances(HONEST, row).max()) for row in HONEST)
    farthest = float(distances(HONEST, forged).max())
    assert farthest == pytest.approx(widest, rel=1e-3)
    assert farthest <= widest * (1 + 1e-4)


def test_min_max_moves_against_the_deviations_and_farther_than_a_little() -> None:
    moved = HONEST.mean(axis=0) - forgery.min_max(HONEST)
    in_deviations = moved / HONEST.std(axis=0)
    assert np.allclose(in_deviations, in_deviations[0], rtol=1e-3)
    assert in_deviations[0] > 0.157


def test_min_max_of_equal_deltas_is_that_delta() -> None:
    same = np.ones((3, 5), np.float32)
    assert forgery.min_max(same).tolist() == [1.0] * 5


def test_labels_are_flipped_about_the_middle() -> None:
    labels = np.array([0, 1, 9], np.int64)
    assert flipped_labels(labels, 10).tolist() == [9, 8, 0]


def test_the_trigger_is_a_white_square_and_leaves_the_images_it_is_made_of() -> None:
    images = np.zeros((2, 3, 32, 32), np.uint8)
    marked = with_trigger(images)
    assert (marked[:, :, 28:31, 28:31] == 255).all()
    assert int((marked != 0).sum()) == 2 * 3 * 9
    assert not images.any()


def test_a_backdoor_marks_and_relabels_half_of_the_images() -> None:
    images = np.zeros((10, 3, 32, 32), np.uint8)
    labels = np.full(10, 7, np.int64)
    marked, told = backdoored(images, labels, np.random.default_rng(0))
    changed = marked.any(axis=(1, 2, 3))
    assert int(changed.sum()) == 5
    assert (told[changed] == TARGET).all()
    assert (told[~changed] == 7).all()
    assert (labels == 7).all()


@pytest.mark.parametrize("name", [name for name, attack in ATTACKS.items() if attack.forge])
def test_every_forgery_is_a_float32_delta_of_the_models_size(name: str) -> None:
    forge = ATTACKS[name].forge
    assert forge is not None
    forged = forge(situation())
    assert (forged.dtype, forged.shape) == (np.float32, (400,))
    assert np.isfinite(forged).all()


def test_a_replay_is_the_first_delta_and_a_free_rider_sends_nothing() -> None:
    replay, rider = ATTACKS["replay"].forge, ATTACKS["free-rider"].forge
    assert replay is not None
    assert rider is not None
    assert np.array_equal(replay(situation()), HONEST[1])
    assert not rider(situation()).any()


def test_a_tenth_is_ten_times_as_fast_and_a_fifth_is_as_fast_as_the_others() -> None:
    fast = {name for name, attack in ATTACKS.items() if attack.speed == 10}
    assert fast == {"fast-sign-flip", "fast-ipm-100"}
    assert {ATTACKS[name].share for name in fast} == {0.1}
    assert {ATTACKS[name].share for name in set(ATTACKS) - fast} == {0.0, 0.2}


# How they come to send it


def counting() -> tuple[Work, list[float]]:
    """Honest work whose n-th delta is all n."""
    made: list[float] = []

    def work(assignment: Assignment) -> Trained:
        made.append(len(made) + 1.0)
        return Trained(np.full(400, made[-1], np.float32), 30, 4, {})

    return work, made


def attacker(
    forge: Callable[[Situation], Vector] | None, onlooker: Onlooker, claimed: int = 1
) -> tuple[Work, list[float]]:
    honestly, made = counting()
    attack = Attack("of a test", "", forge=forge, claimed=claimed)
    work = hostile_work(attack, honestly, onlooker, examples=30, devices=20, attackers=4, seed=0)
    return work, made


def seen(*values: float) -> Onlooker:
    onlooker = Onlooker()
    for index, value in enumerate(values):
        delta = np.full(400, value, np.float32)
        honest = onlooker.watching(lambda _, delta=delta: Trained(delta, 1, 1, {}))  # type: ignore[misc]
        honest(assignment(f"device-{index:02d}"))
    return onlooker


def test_an_onlooker_keeps_the_newest_delta_of_each_device() -> None:
    onlooker = Onlooker()
    honest = onlooker.watching(counting()[0])
    for device in ("device-01", "device-00", "device-01"):
        honest(assignment(device))
    assert onlooker.rows()[:, 0].tolist() == [2.0, 3.0]


def test_an_attacker_that_has_seen_too_little_does_as_it_was_told() -> None:
    work, _ = attacker(lambda now: forgery.inner_product(now.honest(), 1.0), seen(8.0))
    assert work(assignment()).delta[0] == 1.0


def test_an_omniscient_attacker_forges_from_what_it_has_seen_and_does_not_train() -> None:
    work, made = attacker(lambda now: forgery.inner_product(now.honest(), 0.5), seen(8.0, 4.0))
    assert work(assignment()).delta[0] == -3.0
    assert made == []


def test_a_replaying_device_trains_once_and_sends_that_for_ever() -> None:
    work, made = attacker(lambda now: now.first(), seen(8.0, 4.0))
    sent = [work(assignment()).delta[0] for _ in range(3)]
    assert sent == [1.0, 1.0, 1.0]
    assert made == [1.0]


def test_an_attacker_claims_a_multiple_of_the_images_it_has() -> None:
    work, _ = attacker(lambda now: np.zeros(400, np.float32), seen(8.0, 4.0), claimed=10)
    assert work(assignment()).examples == 300


def test_a_poisoner_sends_what_it_learned() -> None:
    work, _ = attacker(None, seen(8.0, 4.0))
    assert [work(assignment()).delta[0] for _ in range(2)] == [1.0, 2.0]
