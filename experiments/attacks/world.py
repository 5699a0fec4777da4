"""One federation under attack, to its end: who takes part, what they have, and what comes of it.

The scheme, the seed and the images decide everything; two rules are compared on the same devices
with the same images and speeds, and the same of them are hostile.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from config.settings import CoordinatorSettings, TrainingPlan
from experiments.attacks.attackers import Onlooker, hostile_work
from experiments.attacks.catalogue import ATTACKS, NONE, Attack
from experiments.attacks.poisoning import TARGET, with_trigger
from experiments.attacks.rows import Row
from experiments.attacks.rules import Rule
from experiments.attacks.scheme import Scheme
from experiments.simulation.assignment import lazily
from experiments.simulation.coordinator import at_once
from experiments.simulation.device import DeviceModel
from experiments.simulation.federation import Course, Simulation
from experiments.simulation.training import Workbench
from federation.compression import Vector
from learning.chunks import Chunk, Images, Labels
from learning.cifar10 import TensorChunk, as_tensors
from learning.data import ImageSet, device_chunk, evaluation_chunk
from learning.partition import by_dirichlet
from learning.vectors import ModelMismatchError

TRAINING_S = 60.0
JITTER = 0.1
LIMIT_S_PER_VERSION = 1200.0
# One version is some points better or worse than the next, so several tell how good they are.
LAST = 5


def run(
    scheme: Scheme, attack: Attack, rule: Rule, seed: int, images: ImageSet, start: Vector | None
) -> Row:
    """One federation under attack, to its end.

    Args:
        start: Float32[d], what the warm-up gave; None is a fresh model.
    """
    began_s = time.process_time()
    world = World(scheme, attack, seed, images)
    course = world.simulate(scheme.coordinator(rule), start)
    updates = [part.id for made in course.history for part in made.contributions]
    left_out = [id for made in course.history for id in made.outliers]
    return Row(
        attack=attack.name,
        rule=rule.line,
        seed=seed,
        accuracy=world.accuracy(course),
        success=world.success(course.model) if attack.targeted or attack.name == NONE else None,
        finite=bool(np.isfinite(course.model).all()),
        versions=len(course.history),
        updates=len(updates),
        hostile_updates=sum(id.device in world.hostile for id in updates),
        left_out=len(left_out),
        hostile_left_out=sum(id.device in world.hostile for id in left_out),
        refused=course.refused,
        quarantined=len(course.quarantined),
        hostile_quarantined=len(world.hostile & set(course.quarantined)),
        virtual_s=round(course.seconds, 1),
        cpu_s=round(time.process_time() - began_s, 1),
    )


def warmed_up(scheme: Scheme, seed: int, images: ImageSet) -> Vector:
    """The model Float32[d] that the same devices make before anyone attacks."""
    return World(scheme, ATTACKS[NONE], seed, images).simulate(scheme.past(), None).model


class World:
    """The devices of one run, and the test images."""

    def __init__(self, scheme: Scheme, attack: Attack, seed: int, images: ImageSet) -> None:
        self._scheme = scheme
        self._seed = seed
        plan = scheme.plan()
        self._bench = Workbench(plan.model_copy(update={"seed": seed}))
        self._tests = _Tests.of(images)
        chance = np.random.default_rng([seed, 21])
        slowness = 0.5 + np.abs(chance.standard_normal(scheme.devices))
        chosen = chance.permutation(scheme.devices)[: round(attack.share * scheme.devices)]
        names = [f"device-{index:02d}" for index in range(scheme.devices)]
        self.hostile = frozenset(names[index] for index in chosen)
        if attack.speed is not None:
            others = np.delete(slowness, chosen)
            slowness[chosen] = others.mean() / attack.speed
        onlooker = Onlooker()
        parts = by_dirichlet(images.train_labels, scheme.devices, scheme.alpha, seed=seed)
        self._devices = []
        for index, (name, part) in enumerate(zip(names, parts, strict=True)):
            chunk = device_chunk(images, part, part[:0])
            if name not in self.hostile:
                work = onlooker.watching(self._bench.honest_work(chunk))
            else:
                work = hostile_work(
                    attack,
                    self._bench.honest_work(_poisoned(chunk, attack, [seed, index])),
                    onlooker,
                    examples=len(part),
                    devices=scheme.devices,
                    attackers=len(self.hostile),
                    seed=seed * scheme.devices + index,
                )
            duration = _duration(float(slowness[index]), f"{seed} {name}")
            self._devices.append(DeviceModel(name, lazily(work), duration))

    def simulate(self, settings: CoordinatorSettings, start: Vector | None) -> Course:
        """Let it happen, from this model on."""
        plan = settings.training.model_copy(update={"seed": self._seed})
        settings = settings.model_copy(update={"training": plan})
        first = self._bench.first if start is None else start
        simulation = Simulation(
            settings, first, self._bench.layout, self._devices, at_once(self._test), seed=self._seed
        )
        return simulation.run(LIMIT_S_PER_VERSION * (settings.versions or 1))

    def accuracy(self, course: Course) -> float:
        """Of the last versions together; of the newest, if they never came about."""
        versions = self._scheme.versions
        figures = [
            course.tested[version]["accuracy"]
            for version in range(versions - LAST + 1, versions + 1)
            if "accuracy" in course.tested.get(version, {})
        ]
        if not course.ended or not figures:
            figures = [self._accuracy(course.model, part) for part in self._tests.parts]
        return float(np.mean(figures))

    def success(self, model: Vector) -> float:
        """The share of images with the backdoor's trigger that are taken for its target."""
        return self._accuracy(model, self._tests.triggered)

    def _test(self, version: int, model: Vector) -> dict[str, float]:
        versions = self._scheme.versions
        if not versions - LAST < version <= versions:
            return {}
        return {"accuracy": self._accuracy(model, self._tests.parts[version % LAST])}

    def _accuracy(self, model: Vector, tests: TensorChunk) -> float:
        try:
            return self._bench.test(model, tests).metrics["accuracy"]
        except ModelMismatchError:
            # Without finite numbers there is no greatest: the first class is the answer.
            return float((tests.held_out_labels == 0).float().mean())


@dataclass(frozen=True, slots=True)
class _Tests:
    """Test images, shuffled and cut in parts, each for one of the last versions; and images with
    the backdoor's trigger that are not of its target.
    """

    parts: tuple[TensorChunk, ...]
    triggered: TensorChunk

    @classmethod
    def of(cls, images: ImageSet) -> _Tests:
        whole = evaluation_chunk(images)
        labels = whole.held_out_labels
        order = np.random.default_rng([0, 22]).permutation(len(labels))
        parts = [
            _held_out(whole, whole.held_out_images[part], labels[part])
            for part in np.array_split(order, LAST)
        ]
        others = order[labels[order] != TARGET][: len(order) // LAST]
        marked = with_trigger(whole.held_out_images[others])
        return cls(tuple(parts), _held_out(whole, marked, np.full(len(others), TARGET, np.int64)))


def _held_out(chunk: Chunk, images: Images, labels: Labels) -> TensorChunk:
    return as_tensors(replace(chunk, held_out_images=images, held_out_labels=labels), "tests")


def _poisoned(chunk: Chunk, attack: Attack, seed: list[int]) -> Chunk:
    if attack.poison is None:
        return chunk
    chance = np.random.default_rng([*seed, 23])
    images, labels = attack.poison(chunk.train_images, chunk.train_labels, chance)
    return replace(chunk, train_images=images, train_labels=labels)


def _duration(slowness: float, seed: str) -> Callable[[TrainingPlan], float]:
    chance = random.Random(seed)
    return lambda plan: TRAINING_S * slowness * chance.uniform(1 - JITTER, 1 + JITTER)
