"""How an attack becomes the work of a simulated device, and what hostile devices get to see."""

from __future__ import annotations

import numpy as np

from experiments.attacks.catalogue import Attack, Situation
from experiments.simulation.assignment import Assignment, Trained, Work
from federation.compression import Vector

# Of fewer there is no deviation: until then a forger does as it was told.
FEWEST_SEEN = 2


class Onlooker:
    """Sees what honest devices send: the newest delta of each."""

    def __init__(self) -> None:
        self._seen: dict[str, Vector] = {}

    def __len__(self) -> int:
        return len(self._seen)

    def watching(self, work: Work) -> Work:
        """The same work, with its deltas seen."""

        def watched(assignment: Assignment) -> Trained:
            trained = work(assignment)
            self._seen[assignment.device] = trained.delta
            return trained

        return watched

    def rows(self) -> np.typing.NDArray[np.float32]:
        """What was seen, Float32[n, d], by device."""
        return np.stack([self._seen[device] for device in sorted(self._seen)])


def hostile_work(
    attack: Attack,
    honestly: Work,
    onlooker: Onlooker,
    *,
    examples: int,
    devices: int,
    attackers: int,
    seed: int,
) -> Work:
    """What one hostile device does for a version.

    Args:
        honestly: its training, on its images as the attack has left them.
        examples: how many images it has; it claims a multiple of them.
        devices, attackers: how many there are.
        seed: decides its chance.
    """
    chance = np.random.default_rng([seed, 20])
    firsts: list[Vector] = []
    claimed = attack.claimed * examples

    def work(assignment: Assignment) -> Trained:
        forge = attack.forge
        if forge is None or len(onlooker) < FEWEST_SEEN:
            trained = honestly(assignment)
            if not firsts:
                firsts.append(trained.delta)
            return Trained(trained.delta, claimed, trained.steps, trained.metrics)

        def own() -> Vector:
            return honestly(assignment).delta

        def first() -> Vector:
            if not firsts:
                firsts.append(own())
            return firsts[0]

        size = assignment.received.size
        now = Situation(onlooker.rows, own, first, size, devices, attackers, chance)
        return Trained(forge(now).astype(np.float32, copy=False), claimed, 1, {})

    return work
