"""A secured federation in memory whose broker means harm, and that watches what comes of it.

After every event it is asserted that nothing was believed that nobody said, no chunk was kept that
is not the right one, no version was begun after a later one was known, and no update was
forgotten that the coordinator had not judged.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from coordinator import vocabulary as cv
from device_agent import vocabulary as av
from federation.loopback import Faults
from federation.machine import Publish, Received
from federation.messages import Header, Offer, Reason, Request
from federation.transfer import chunk_digest
from tests.hostile_broker import THIEF, HostileBroker, Malice, body, is_chunk
from tests.in_memory import (
    NO_FAULTS,
    TOPICS,
    AgentDisk,
    Coordinator,
    CoordinatorDisk,
    Party,
    World,
)

SECRET_BYTES = 16
Age = tuple[int, int, int, int]


class HostileWorld(World):
    """Attributes:
    outcomes: what became of each message that was handed over, told or not.
    """

    broker: HostileBroker

    def __init__(
        self, malice: Malice, *, faults: Faults = NO_FAULTS, seed: int = 0, **settings: Any
    ) -> None:
        self.malice = malice
        self.outcomes: Counter[str] = Counter()
        self.wiped: list[tuple[str, AgentDisk]] = []
        self.renewed = False
        self._counts: dict[Party, int] = {}
        self._known: dict[Party, Age] = {}
        self._begun: dict[bytes, Age] = {}
        super().__init__(faults=faults, seed=seed, secured=True, **settings)

    def a_broker(self, faults: Faults, seed: int) -> HostileBroker:
        assert self.trust is not None
        return HostileBroker(self.time, TOPICS, self.trust, self.malice, faults, seed)

    # What an operator may do

    def found_anew(self) -> None:
        """The coordinator's state is lost: another ledger begins."""
        self.coordinator.kill()
        self.run(5.0)  # until its will is heard
        number = len(self.ledgers) + 1
        self.coordinator_disk = CoordinatorDisk(ledger=b"ledger-%d" % number, founded=number)
        self.ledgers[self.coordinator_disk.ledger] = self.coordinator_disk
        self.coordinator = Coordinator(self, self.coordinator_disk, self.settings)

    def wipe(self, device: str) -> None:
        """A device's state is lost: another outbox begins."""
        self.wiped.append((device, self.agent_disks[device]))
        self.agents[device].kill()
        self.agent_disks[device] = AgentDisk(outbox=b"wiped-%02d" % len(self.wiped))
        self.restart_agent(device)

    def renew_seal(self) -> None:
        """The coordinator gets another key to which updates are sealed."""
        assert self.trust is not None
        self.trust.keyring.rotate()
        self.restart_coordinator()

    def renew_signer(self) -> None:
        """The coordinator gets another key to sign with."""
        assert self.trust is not None
        self.trust.epoch += 1
        self.renewed = True
        self.restart_coordinator()

    def revive(self) -> None:
        """Start again whoever has ended."""
        if self.coordinator.stopped:
            self.restart_coordinator()
        for device, agent in list(self.agents.items()):
            if agent.stopped:
                self.restart_agent(device)

    # What is watched

    def made(self) -> dict[cv.UpdateId, tuple[Offer, bytes]]:
        """Every update that a device has ever committed, and its payload before it was sealed."""
        disks = [*self.agent_disks.items(), *self.wiped]
        return {
            cv.UpdateId(device, disk.outbox, sequence): made
            for device, disk in disks
            for sequence, made in disk.made.items()
        }

    def opened(self, party: Party, event: Received, *, believed: bool) -> None:
        if (event.topic, event.payload) in self.broker.said:
            assert believed or self.renewed, "a member was not believed"
            self.outcomes["as it was said"] += believed
            self.outcomes["said before a renewal, not believed"] += not believed
        elif not believed:
            self.outcomes["not believed"] += 1
        else:
            assert is_chunk(event.payload) or not event.payload, "believed, and nobody said it"

    def took(self, party: Party, event: Any, effects: list[Any]) -> None:
        counted = sum(party.core.counts.values())
        ignored = counted > self._counts.get(party, 0)
        self._counts[party] = counted
        if isinstance(event, Received):
            self._heard(party, event, effects, ignored=ignored)
        for effect in effects:
            self._watch(party, effect)

    def _heard(self, party: Party, event: Received, effects: list[Any], *, ignored: bool) -> None:
        if isinstance(header := body(event.payload), Header):
            self._known[party] = max(age(header), self._known.get(party, (0, 0, 0, 0)))
        is_forged = (event.topic, event.payload) not in self.broker.said
        if is_forged and is_chunk(event.payload):
            if ignored:
                self.outcomes["chunk not taken"] += 1
            elif any(isinstance(one, av.StoreChunk | cv.WriteChunk) for one in effects):
                self.outcomes["chunk taken, being the right one"] += 1
            else:
                asked = [body(one.payload) for one in effects if isinstance(one, Publish)]
                assert any(isinstance(one, Request) for one in asked), "not noticed"
                self.outcomes["chunk asked for elsewhere"] += 1

    def _watch(self, party: Party, effect: Any) -> None:
        match effect:
            case av.StoreChunk(header=header, index=index, data=data):
                start, end = header.payload.extent(index)
                whole = self.ledgers[header.ledger].versions[header.version]
                assert data == whole[start:end], "a wrong piece of a model was kept"
            case cv.WriteChunk(id=id, offset=offset, data=data) if id.device != THIEF:
                manifest = self.made()[id][0].payload
                index = offset // manifest.chunk_bytes
                assert chunk_digest(data) == manifest.digest(index), "a wrong piece was kept"
            case av.Prepare(header=header) | av.Train(header=header):
                begun = self._begun.get(party.disk.outbox, (0, 0, 0, 0))
                assert age(header) >= begun, "an earlier version was begun after a later one"
                if isinstance(effect, av.Prepare):
                    known = self._known.get(party, (0, 0, 0, 0))
                    assert age(header) >= known, "an earlier version was begun than is known"
                self._begun[party.disk.outbox] = age(header)
            case av.Forget(sequence=sequence):
                id = cv.UpdateId(party.name, party.disk.outbox, sequence)
                judged = (d.entered.keys() | d.refused.keys() for d in self.ledgers.values())
                assert any(id in ids for ids in judged), "forgotten, and nobody had judged it"
            case cv.Judge(id=id, offer=offer, refusal=None):
                assert offer == self.made()[id][0], "accepted, and no device has offered it"

    def check(self) -> None:
        """All that must be true of the disks, and of what the broker has read."""
        made = self.made()
        for disk in self.ledgers.values():
            for id in disk.entered:
                assert disk.believed[id] == made[id], "it was not what the device has made"
            for id, reason in disk.refused.items():
                if id.device == THIEF:
                    assert reason in (Reason.BAD_SEAL, Reason.UNKNOWN_BASE)
        secrets = {
            payload[n : n + SECRET_BYTES]
            for _, payload in made.values()
            for n in range(len(payload) - SECRET_BYTES + 1)
        }
        for seen in self.broker.read:
            pieces = (seen[n : n + SECRET_BYTES] for n in range(len(seen) - SECRET_BYTES + 1))
            assert secrets.isdisjoint(pieces), "the broker has read a piece of an update"

    def who_stopped(self) -> list[str]:
        parties = [self.coordinator, *self.agents.values()]
        return [f"{party.name}: {party.stopped.text}" for party in parties if party.stopped]


def age(header: Header) -> Age:
    """What makes a header later than another, of whatever ledger."""
    return header.founded, header.boot, header.version, header.draw
