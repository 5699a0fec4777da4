"""What a run with faults is: which federation, and whom it kills when.

Kills follow from a seed, and are paced by the run itself, so that no kill comes too late.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from config.settings import BrokerKind

BROKER, COORDINATOR = "broker", "coordinator"
ROLE_SHARE = 1 / 6  # of the kills are the coordinator's, and as many the broker's
TOGETHER = 0.25
LAST_SHARE = 0.97

IMMEDIATE: dict[str, Any] = {
    "strategy": "fedasync",
    "aggregation": {
        "combine": "mean",
        "cooldown": 0,
        "reanchor": False,
        "step_size": 1.0,
        "staleness": "constant",
        "max_staleness": 10_000,
    },
}
BUFFERED: dict[str, Any] = {
    "strategy": "fedbuff",
    "aggregation": {
        "combine": "mean",
        "buffer_size": 4,
        "deadline_s": 2.0,
        "max_staleness": 10_000,
    },
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What federation it is.

    Attributes:
        rule: settings of the coordinator: how versions are made.
        train_s: how long one training takes.
        bad_links: whether links cut, stall and delay by themselves.
        link, transfer, agent_settings: settings of all roles, and of the agents alone.
    """

    agents: int
    updates_each: int
    seed: int
    rule: dict[str, Any]
    train_s: float = 0.0
    bad_links: bool = True
    broker_kind: BrokerKind = "auto"
    link: dict[str, Any] = field(default_factory=dict)
    transfer: dict[str, Any] = field(default_factory=dict)
    agent_settings: dict[str, Any] = field(default_factory=dict)

    @property
    def devices(self) -> tuple[str, ...]:
        """The names of the devices."""
        return tuple(f"agent-{n:02}" for n in range(self.agents))

    @property
    def updates(self) -> int:
        """How many updates there will be in all."""
        return self.agents * self.updates_each


@dataclass(frozen=True, slots=True)
class Strike:
    """Kills at one moment.

    Attributes:
        share: of all updates that are accepted when it is due,
        delay_s: and so long after that.
        victims: who is killed, with how long each stays away.
    """

    share: float
    delay_s: float
    victims: tuple[tuple[str, float], ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Who is killed."""
        return tuple(name for name, _ in self.victims)


def schedule(
    seed: int, agents: Sequence[str], kills: int, power_cuts: int, longest_pause_s: float
) -> list[Strike]:
    """So many kills in all, some at the same moment; and besides, power cuts that take everyone."""
    chance = random.Random(f"{seed} strikes")
    of_role = round(kills * ROLE_SHARE)
    names = [COORDINATOR] * of_role + [BROKER] * of_role
    names += [chance.choice(agents) for _ in range(kills - 2 * of_role)]
    chance.shuffle(names)
    groups: list[list[str]] = []
    for name in names:
        if groups and name not in groups[-1] and chance.random() < TOGETHER:
            groups[-1].append(name)
        else:
            groups.append([name])
    for _ in range(power_cuts):
        groups.insert(chance.randint(0, len(groups)), [BROKER, COORDINATOR, *agents])
    shares = sorted(chance.uniform(0, LAST_SHARE) for _ in groups)
    return [
        Strike(
            share,
            chance.uniform(0, 1),
            tuple((name, chance.uniform(0.05, longest_pause_s)) for name in group),
        )
        for share, group in zip(shares, groups, strict=True)
    ]
