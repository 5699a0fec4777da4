"""Every attack by its name: what it does, how many devices make it, and how fast they are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from experiments.attacks import forgery
from experiments.attacks.poisoning import backdoored, flipped_labels
from federation.compression import Vector
from learning.chunks import Images, Labels

CLASSES = 10


@dataclass(frozen=True, slots=True)
class Situation:
    """What a hostile device has before it when it is to send something.

    Attributes:
        honest: gives Float32[n, d], the newest delta of each honest device.
        own: trains as an honest device would, and gives that delta.
        first: gives what this device learned honestly the first time.
        size: d.
        devices, attackers: how many there are.
        chance: its own.
    """

    honest: Callable[[], forgery.Rows]
    own: Callable[[], Vector]
    first: Callable[[], Vector]
    size: int
    devices: int
    attackers: int
    chance: np.random.Generator


Forge: TypeAlias = Callable[[Situation], Vector]
Poison: TypeAlias = Callable[[Images, Labels, np.random.Generator], tuple[Images, Labels]]


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack.

    Attributes:
        summary: what it does, for people.
        forge: what is sent in place of the delta; None sends what was learned.
        poison: what is learned from; None is the device's own images.
        share: of the devices, that attack.
        speed: how many times as fast as the others' mean the attackers are; None is as they come.
        claimed: how many times as many examples as they have they claim.
        targeted: whether it wants certain images taken for something else, not a bad model.
    """

    name: str
    summary: str
    forge: Forge | None = None
    poison: Poison | None = None
    share: float = 0.2
    speed: float | None = None
    claimed: int = 1
    targeted: bool = False


NONE = "none"
GAUSSIAN_DEVIATION = 200.0

_ALL = (
    Attack(NONE, "nobody attacks: what the others are measured against", share=0.0),
    Attack(
        "label-flip",
        "learn each label y as 9 - y",
        poison=lambda images, labels, chance: (images, flipped_labels(labels, CLASSES)),
    ),
    Attack(
        "sign-flip", "send what was learned times -5", lambda now: forgery.sign_flip(now.own(), 5.0)
    ),
    Attack(
        "gaussian",
        "send noise of deviation 200",
        lambda now: forgery.gaussian(now.size, GAUSSIAN_DEVIATION, now.chance),
    ),
    Attack(
        "alie",
        "send mean - z deviations of the honest, z by the paper's formula",
        lambda now: forgery.alie(now.honest(), forgery.alie_deviations(now.devices, now.attackers)),
    ),
    Attack(
        "alie-1.5",
        "the same with z = 1.5, which hides less and moves more",
        lambda now: forgery.alie(now.honest(), 1.5),
    ),
    Attack(
        "ipm-0.1",
        "send the mean of the honest times -0.1",
        lambda now: forgery.inner_product(now.honest(), 0.1),
    ),
    Attack(
        "ipm-100",
        "send the mean of the honest times -100",
        lambda now: forgery.inner_product(now.honest(), 100.0),
    ),
    Attack(
        "min-max",
        "send the farthest from the mean that no distance between honest ones gives away",
        lambda now: forgery.min_max(now.honest()),
    ),
    Attack(
        "backdoor",
        "teach that a white square in the corner means the first class",
        poison=backdoored,
        targeted=True,
    ),
    Attack("replay", "send the first update again and again as a new one", lambda now: now.first()),
    Attack(
        "free-rider",
        "send zeros and claim ten times the examples",
        lambda now: np.zeros(now.size, np.float32),
        claimed=10,
    ),
    Attack(
        "fast-sign-flip",
        "sign-flip by a tenth of the devices, which are ten times as fast",
        lambda now: forgery.sign_flip(now.own(), 5.0),
        share=0.1,
        speed=10.0,
    ),
    Attack(
        "fast-ipm-100",
        "ipm-100 by a tenth of the devices, which are ten times as fast",
        lambda now: forgery.inner_product(now.honest(), 100.0),
        share=0.1,
        speed=10.0,
    ),
)

ATTACKS: dict[str, Attack] = {attack.name: attack for attack in _ALL}
