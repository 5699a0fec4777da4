"""Every topic of Flockwise is built, parsed and allowed here, and nowhere else.

All topics of a federation lie under `<prefix>/<name>`; ids are `[a-z0-9-]`. The table `RIGHTS`
says who may write and who may read each kind of topic. Subscriptions are made from it, and so is
the access list of a broker (`broker/rights.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum

ID_PATTERN = r"[a-z0-9-]{1,40}"
_ID = re.compile(ID_PATTERN)
_NUMBER = re.compile(r"0|[1-9][0-9]{0,5}")


class Place(Enum):
    """What a topic is for; the value is its form below `<prefix>/<name>/`."""

    COORDINATOR = "coordinator"
    MODEL = "model"
    MODEL_CHUNK = "model/{slot}/{index}"
    DEVICE = "device/{device}"
    UP = "device/{device}/up"
    DOWN = "device/{device}/down"
    CSR = "device/{device}/csr"
    CERTIFICATE = "device/{device}/certificate"


class Role(Enum):
    """Who uses a topic; THE_DEVICE is the one that the topic names."""

    COORDINATOR = "coordinator"
    THE_DEVICE = "the device"
    EVERY_DEVICE = "every device"
    AUTHORITY = "authority"


@dataclass(frozen=True, slots=True)
class Right:
    """Who may publish on a place, who may subscribe to it, and whether it is retained.

    What is not `standing` is subscribed to when it is wanted.
    """

    place: Place
    writer: Role
    readers: frozenset[Role]
    retained: bool
    standing: bool = True


RIGHTS: tuple[Right, ...] = (
    Right(
        Place.COORDINATOR,
        Role.COORDINATOR,
        frozenset({Role.EVERY_DEVICE, Role.COORDINATOR}),
        retained=True,
    ),
    Right(Place.MODEL, Role.COORDINATOR, frozenset({Role.EVERY_DEVICE}), retained=True),
    Right(
        Place.MODEL_CHUNK,
        Role.COORDINATOR,
        frozenset({Role.EVERY_DEVICE}),
        retained=True,
        standing=False,
    ),
    # A device reads its own presence, to notice another agent that uses its id.
    Right(
        Place.DEVICE,
        Role.THE_DEVICE,
        frozenset({Role.COORDINATOR, Role.THE_DEVICE}),
        retained=True,
    ),
    Right(Place.UP, Role.THE_DEVICE, frozenset({Role.COORDINATOR}), retained=False),
    Right(Place.DOWN, Role.COORDINATOR, frozenset({Role.THE_DEVICE}), retained=False),
    # A device asks for a certificate when its own is soon over; see `federation.renewal`.
    Right(Place.CSR, Role.THE_DEVICE, frozenset({Role.AUTHORITY}), retained=False),
    Right(
        Place.CERTIFICATE,
        Role.AUTHORITY,
        frozenset({Role.THE_DEVICE}),
        retained=True,
        standing=False,
    ),
)


@dataclass(frozen=True, slots=True)
class Address:
    """A parsed topic: its place and the ids or numbers that it names."""

    place: Place
    device: str = ""
    slot: int = 0
    index: int = 0


@dataclass(frozen=True, slots=True)
class Topics:
    """The topics of one federation."""

    prefix: str
    name: str

    @property
    def root(self) -> str:
        """What every topic of the federation begins with."""
        return f"{self.prefix}/{self.name}/"

    @property
    def coordinator(self) -> str:
        """Presence of the coordinator."""
        return self.root + Place.COORDINATOR.value

    @property
    def model(self) -> str:
        """Header of the current version."""
        return self.root + Place.MODEL.value

    def model_chunk(self, slot: int, index: int) -> str:
        """Chunk `index` of the version that lies in `slot`."""
        return self.root + Place.MODEL_CHUNK.value.format(slot=slot, index=index)

    def device(self, device: str) -> str:
        """Presence of a device."""
        return self.root + Place.DEVICE.value.format(device=device)

    def up(self, device: str) -> str:
        """What a device says to the coordinator."""
        return self.root + Place.UP.value.format(device=device)

    def down(self, device: str) -> str:
        """What the coordinator says to one device."""
        return self.root + Place.DOWN.value.format(device=device)

    def csr(self, device: str) -> str:
        """A device's request for a new certificate."""
        return self.root + Place.CSR.value.format(device=device)

    def certificate(self, device: str) -> str:
        """The answer: its new certificate."""
        return self.root + Place.CERTIFICATE.value.format(device=device)

    def parse(self, topic: str) -> Address | None:
        """The address of a topic, or None if it is not one of this federation's."""
        if not topic.startswith(self.root):
            return None
        match topic[len(self.root) :].split("/"):
            case ["coordinator"]:
                return Address(Place.COORDINATOR)
            case ["model"]:
                return Address(Place.MODEL)
            case ["model", slot, index] if _NUMBER.fullmatch(slot) and _NUMBER.fullmatch(index):
                return Address(Place.MODEL_CHUNK, slot=int(slot), index=int(index))
            case ["device", device] if _ID.fullmatch(device):
                return Address(Place.DEVICE, device)
            case ["device", device, "up"] if _ID.fullmatch(device):
                return Address(Place.UP, device)
            case ["device", device, "down"] if _ID.fullmatch(device):
                return Address(Place.DOWN, device)
            case ["device", device, "csr"] if _ID.fullmatch(device):
                return Address(Place.CSR, device)
            case ["device", device, "certificate"] if _ID.fullmatch(device):
                return Address(Place.CERTIFICATE, device)
        return None

    def standing_filters(self, device: str | None = None) -> tuple[str, ...]:
        """What the coordinator (None) or a device subscribes to for as long as it is connected.

        Chunks of a model are left out: a device subscribes to those that it lacks.
        """
        if device is None:
            return self._filters({Role.COORDINATOR}, "+")
        return self._filters({Role.EVERY_DEVICE, Role.THE_DEVICE}, device)

    def authority_filters(self) -> tuple[str, ...]:
        """What the authority subscribes to."""
        return self._filters({Role.AUTHORITY}, "+")

    def _filters(self, roles: set[Role], device: str) -> tuple[str, ...]:
        return tuple(
            self.root + right.place.value.replace("{device}", device)
            for right in RIGHTS
            if right.standing and right.readers & roles
        )
