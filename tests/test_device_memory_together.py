"""Device-held memory, both ends of it: the coordinator's sum is what the devices remember.

The deltas are whole numbers, so that sums of float32 are exact in any order.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.settings import Aggregation
from coordinator import vocabulary as cv
from coordinator.combiner import succeed
from coordinator.device_memory import HOLDERS, SUM
from device_agent import vocabulary as av
from federation.compression import Vector, decode
from federation.loopback import Faults
from federation.messages import Header
from learning.updates import make_update
from tests.in_memory import LAYOUT, Agent, AgentDisk, Coordinator, World

D = LAYOUT.size
NOTHING: Vector = np.zeros(D, dtype=np.float32)
PLAN = {"memory": True, "codec": "float32"}
RULE = {"combine": "mean"}


class Remembering(Agent):
    """Keeps its memory as the outbox does: a candidate until the verdict."""

    world: MemoryWorld

    def content(self, header: Header, sequence: int) -> bytes:
        assert not self.disk.offers, "it began before it knew what became of the last one"
        seed = random.Random(f"{self.disk.outbox!r}{sequence}").randrange(2**32)
        delta = np.random.default_rng(seed).integers(-8, 8, D).astype(np.float32)
        update = make_update(delta, header.plan.codec, memory=self.world.held(self.disk.outbox))
        assert update.memory is not None
        self.world.candidates[self.disk.outbox, sequence] = update.memory
        return update.payload

    def do(self, effect: Any) -> None:
        super().do(effect)
        if isinstance(effect, av.Forget):
            candidate = self.world.candidates.pop((self.disk.outbox, effect.sequence))
            if effect.accepted:
                self.world.memories[self.disk.outbox] = candidate
            self.inbox(av.Forgotten(effect.sequence))


class Summing(Coordinator):
    """Combines by the product's own function."""

    world: MemoryWorld

    def combine(self, effect: cv.Combine) -> None:
        if self.alive:
            made = succeed(
                self.settings.aggregation,
                NOTHING,
                self.world.state,
                effect.contributions,
                self.world.news,
                lambda version: NOTHING,
            )
            self.world.state = made.state
        super().combine(effect)


class MemoryWorld(World):
    """A world whose updates are numbers, and whose devices remember them."""

    agent_kind, coordinator_kind = Remembering, Summing

    def __init__(self, **fields: Any) -> None:
        self.memories: dict[bytes, Vector] = {}
        self.candidates: dict[tuple[bytes, int], Vector] = {}
        self.state: dict[str, Vector] = {}
        rule = {**RULE, **fields.pop("aggregation", {})}
        super().__init__(aggregation=rule, training=PLAN, **fields)

    def held(self, outbox: bytes) -> Vector:
        return self.memories.get(outbox, NOTHING)

    def news(self, id: cv.UpdateId) -> Vector:
        return decode("float32", self.coordinator_disk.believed[id][1], D)

    def wipe(self, device: str) -> None:
        """Its disk is lost: it comes back as somebody else."""
        self.agents[device].kill()
        self.run(5)  # what it said last is not under way any more: nobody seems to share its id
        disk = AgentDisk(outbox=self.random.randbytes(8))
        self.agent_disks[device] = disk
        self.agents[device] = self.agent_kind(self, device, disk)

    def check(self) -> None:
        applied: dict[bytes, Vector] = {}
        for id in self.coordinator_disk.applied:
            applied[id.outbox] = applied.get(id.outbox, NOTHING) + self.news(id)
        for disk in self.agent_disks.values():
            wanted = applied.get(disk.outbox, NOTHING)
            np.testing.assert_array_equal(self.held(disk.outbox), wanted)
        if applied:
            np.testing.assert_array_equal(self.state[SUM], sum(applied.values()))
            assert self.state[HOLDERS].tolist() == [len(applied)]


faults = st.builds(
    Faults,
    loss=st.floats(0, 0.3),
    duplication=st.floats(0, 0.3),
    cut=st.floats(0, 0.02),
    delay_s=st.tuples(st.floats(0.001, 0.05), st.floats(0.05, 2.0)),
)
VICTIMS = ["coordinator", "broker", "wiped", 0, 1, 2]
kills = st.lists(st.tuples(st.floats(1, 120), st.sampled_from(VICTIMS)), max_size=8)
deaths = st.fixed_dictionaries(
    {
        name: st.frozensets(st.integers(1, 150), max_size=12)
        for name in ("coordinator", "device-0", "device-1")
    }
)
rules = st.fixed_dictionaries(
    {
        "trigger": st.sampled_from(["buffer", "rounds", "immediate"]),
        "max_staleness": st.sampled_from([0, 1, 10_000]),
        "cooldown": st.sampled_from([None, 0, 2]),
    }
)
thorough = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@thorough
@given(faults=faults, seed=st.integers(0, 2**32), kills=kills, deaths=deaths, rule=rules)
def test_at_rest_the_sum_is_what_devices_remember_whatever_was_lost_doubled_late_or_killed(
    faults: Faults,
    seed: int,
    kills: list[tuple[float, str | int]],
    deaths: dict[str, frozenset[int]],
    rule: dict[str, Any],
) -> None:
    world = MemoryWorld(faults=faults, seed=seed, aggregation=rule, training_s=(5.0, 60.0))
    world.deaths = deaths
    for pause_s, victim in kills:
        world.run(pause_s)
        match victim:
            case "coordinator":
                world.restart_coordinator()
            case "broker":
                world.broker.forget_everything()
            case "wiped":
                world.wipe("device-0")
            case _:
                world.restart_agent(f"device-{victim}")
    # Where nothing stale is taken and a quarter of the messages is lost, hours go by.
    assert world.run(48 * 3600, lambda: len(world.coordinator_disk.applied) >= 9)
    assert world.come_to_rest()
    world.check()


@pytest.mark.parametrize("party", ["coordinator", "device-0"])
def test_killing_a_party_after_any_one_of_its_effects_leaves_the_sum_exact(party: str) -> None:
    def lived(deaths: dict[str, frozenset[int]]) -> MemoryWorld:
        world = MemoryWorld(devices=2, aggregation={"trigger": "immediate", "max_staleness": 0})
        world.deaths = deaths
        assert world.run(2 * 3600, lambda: len(world.trained()) >= 4), deaths
        assert world.come_to_rest(), deaths
        world.check()
        return world

    effects = lived({}).carried_out[party]
    assert effects > 20
    for after in range(1, effects + 1):
        lived({party: frozenset({after})})


def test_refused_updates_are_remembered_by_nobody() -> None:
    world = MemoryWorld(aggregation={"trigger": "immediate", "max_staleness": 0})
    assert world.run(4 * 3600, lambda: len(world.coordinator_disk.refused) >= 3)
    assert world.come_to_rest()
    assert world.coordinator_disk.applied
    world.check()


def test_what_is_set_aside_is_all_by_which_the_sum_falls_short() -> None:
    world = MemoryWorld(aggregation={"buffer_size": 3, "deadline_s": 300})
    disk = world.coordinator_disk

    def waits() -> bool:
        done = {*disk.applied, *disk.aside}
        return any(id.device == "device-0" for id in disk.entered if id not in done)

    assert world.run(4 * 3600, lambda: len(disk.applied) >= 3)
    assert world.run(4 * 3600, waits)
    world.set_quarantine("device-0", to=True)
    assert world.run(60, lambda: bool(disk.aside))
    world.set_quarantine("device-0", to=False)
    assert world.run(4 * 3600, lambda: len(disk.applied) >= 9)
    world.training = False
    world.run(600)
    remembered = sum(world.held(one.outbox) for one in world.agent_disks.values())
    waiting = set(disk.entered) - set(disk.applied)
    short: Any = sum((world.news(id) for id in waiting), NOTHING)
    assert waiting >= disk.aside
    np.testing.assert_array_equal(world.state[SUM], remembered - short)


# What the steps come to, in numbers that a reader checks in the head.


def stepped(rule: Aggregation, state: dict[str, Vector], *parts: tuple[float, bool]) -> Any:
    """A model of one number, 0 before, after updates that say `news` and are known or not."""
    ids = [cv.UpdateId(f"d{n}", b"outbox-1", 0) for n in range(len(parts))]
    given = [
        cv.Contribution(id, 0, 0, 1.0, 1.0, known=known)
        for id, (_, known) in zip(ids, parts, strict=True)
    ]
    said = {id: np.array([news], np.float32) for id, (news, _) in zip(ids, parts, strict=True)}
    zero = np.zeros(1, np.float32)
    return succeed(rule, zero, state, given, said.__getitem__, lambda version: zero)


def remembered(total: float, holders: int) -> dict[str, Vector]:
    return {SUM: np.array([total], np.float32), HOLDERS: np.array([holders], np.float32)}


MEAN = Aggregation(combine="mean")
step: Callable[..., Any] = partial(stepped, MEAN)


def test_first_updates_count_as_they_are() -> None:
    made = step({}, (2.0, False), (4.0, False))
    assert made.model.tolist() == [3.0]
    assert made.state == remembered(6.0, 2)


def test_where_all_are_known_the_mean_of_the_memory_is_added_to_that_of_the_news() -> None:
    # h = 12 / 4; the news are 1 and -3.
    made = step(remembered(12.0, 4), (1.0, True), (-3.0, True))
    assert made.model.tolist() == [3.0 - 1.0]
    assert made.state == remembered(10.0, 4)


def test_a_newcomer_takes_no_share_of_the_memory() -> None:
    # Half of h = 3, and half of 1 + 5.
    made = step(remembered(12.0, 4), (1.0, True), (5.0, False))
    assert made.model.tolist() == [1.5 + 3.0]
    assert made.state == remembered(18.0, 5)


def test_the_gain_is_for_the_news_alone_and_not_for_the_sum() -> None:
    rule = Aggregation(combine="mean", memory_gain=0.5)
    made = stepped(rule, remembered(12.0, 4), (1.0, True), (-3.0, True))
    assert made.model.tolist() == [3.0 - 0.5]
    assert made.state == remembered(10.0, 4)


def test_the_servers_optimizer_is_given_the_calibrated_update() -> None:
    rule = Aggregation(combine="mean", step="momentum", beta1=0.5)
    made = stepped(rule, {**remembered(12.0, 4), "m": np.array([2.0], np.float32)}, (1.0, True))
    assert made.model.tolist() == [0.5 * 2 + 3 + 1]
    assert made.state == {**remembered(13.0, 4), "m": np.array([5.0], np.float32)}


def test_devices_that_all_send_have_the_mean_of_what_they_learned() -> None:
    """With the memory of all, h + mean(delta - h_i) is the mean of the deltas: FedBuff's own."""
    chance = np.random.default_rng(0)
    first, second = (chance.integers(-9, 9, (4, D)).astype(np.float32) for _ in range(2))
    ids = [cv.UpdateId(f"d{n}", b"outbox-1", 0) for n in range(4)]
    state: dict[str, Vector] = {}
    model = NOTHING
    memory = dict.fromkeys(ids, NOTHING)
    for deltas, known in ((first, False), (second, True)):
        sent = {}
        for id, delta in zip(ids, deltas, strict=True):
            update = make_update(delta, "float32", memory=memory[id])
            sent[id] = decode("float32", update.payload, D)
            assert update.memory is not None
            memory[id] = update.memory
        parts = [cv.Contribution(id, 0, 0, 1.0, 1.0, known=known) for id in ids]
        made = succeed(MEAN, NOTHING, state, parts, sent.__getitem__, lambda version: NOTHING)
        model, state = made.model, made.state
    np.testing.assert_array_equal(model, second.mean(axis=0))
    np.testing.assert_array_equal(state[SUM], second.sum(axis=0))
