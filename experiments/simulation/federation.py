"""A whole federation in one process and in virtual time, with the real cores and real training.

The coordinator's and the devices' own cores talk through the loopback broker on a clock that
jumps; what they want done is done in memory. The same settings, devices and seed give the same
bytes, however fast the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from config.settings import CoordinatorSettings
from experiments.simulation.coordinator import Made, Test, VirtualCoordinator
from experiments.simulation.device import DeviceModel, VirtualDevice
from federation.compression import Vector
from federation.layout import Layout
from federation.loopback import Faults, LoopbackBroker
from federation.topics import Topics
from federation.virtual_time import VirtualTime

NO_FAULTS = Faults()


@dataclass(frozen=True, slots=True)
class Course:
    """How a simulated federation went.

    Attributes:
        model: Float32[d], the newest version.
        ended: whether all versions were made that were asked for.
        seconds: virtual time.
        tested: figures of the versions that were tested.
        refused: how many updates were refused, by reason.
        quarantined: the devices that the coordinator put into quarantine.
    """

    model: Vector
    ended: bool
    seconds: float
    history: tuple[Made, ...]
    tested: dict[int, dict[str, float]]
    refused: dict[str, int]
    quarantined: tuple[str, ...]


class Simulation:
    """One coordinator, some devices, one broker, one clock, one seed."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        model: Vector,
        layout: Layout,
        devices: Sequence[DeviceModel],
        test: Test,
        *,
        seed: int = 0,
        faults: Faults = NO_FAULTS,
    ) -> None:
        """Set it up; nothing happens yet.

        Args:
            settings: with a number of versions, or it goes on until the limit of `run`. Where they
                name a test set, `test` stands in for it.
            model: Float32[d], version 0.
            seed: decides all chance but that of the trainings.
        """
        self.time = VirtualTime()
        broker = LoopbackBroker(self.time, faults, seed)
        topics = Topics(settings.federation.prefix, settings.federation.name)
        chance = random.Random(seed)
        self.coordinator = VirtualCoordinator(
            settings, model, layout, test, broker, topics, random.Random(chance.random())
        )
        self.devices = tuple(
            VirtualDevice(
                device,
                broker,
                topics,
                settings.task,
                settings.transfer,
                random.Random(chance.random()),
            )
            for device in devices
        )

    def run(self, limit_s: float, enough: Callable[[], bool] = lambda: False) -> Course:
        """Let it happen until the coordinator ends, or until so much virtual time has passed.

        Args:
            enough: asked at each moment; whether to end early.
        """
        coordinator = self.coordinator
        self.time.run_until(lambda: coordinator.stopped is not None or enough(), limit_s)
        ended = coordinator.stopped is not None
        return Course(
            model=coordinator.model,
            ended=ended,
            seconds=self.time.now_s,
            history=tuple(coordinator.history),
            tested=dict(coordinator.tested),
            refused=dict(coordinator.refused),
            quarantined=tuple(coordinator.quarantined),
        )
