"""What an enemy at the broker, or one with a key of his own, tries with true words; one by one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from config.aggregation import StandingRules
from coordinator import vocabulary as cv
from coordinator.standing import Standing
from device_agent.work import Phase
from federation.machine import Publish, Received
from federation.messages import (
    Chunk,
    CoordinatorPresence,
    DevicePresence,
    Header,
    Message,
    Offer,
    Reason,
    Receipt,
    State,
    encode,
)
from federation.sealing import about, seal
from tests.hostile_broker import THIEF, Malice, body
from tests.hostile_world import HostileWorld
from tests.in_memory import TOPICS, Party

HOUR_S = 3600.0
ONE, TWO = "device-0", "device-1"
UP, DOWN = TOPICS.up(ONE), TOPICS.down(ONE)


def a_world(malice: Malice | None = None, **settings: Any) -> HostileWorld:
    """A federation whose broker remembers everything, and does nothing by itself."""
    return HostileWorld(malice or Malice(), **settings)


def said(world: HostileWorld, topic: str, kind: type, **fields: Any) -> bytes:
    """The last message of a kind, with these fields, that was said on a topic; as it was said."""
    for place, payload in reversed(world.broker._past):
        message: Any = body(payload)
        is_right = place == topic and isinstance(message, kind)
        if is_right and all(getattr(message, name) == value for name, value in fields.items()):
            return payload
    raise AssertionError(f"no {kind.__name__} with {fields} was ever said on {topic}")


def until_said(world: HostileWorld, topic: str, kind: type, **fields: Any) -> bytes:
    def is_said() -> bool:
        try:
            said(world, topic, kind, **fields)
        except AssertionError:
            return False
        return True

    assert world.run(HOUR_S, is_said)
    return said(world, topic, kind, **fields)


def tell(world: HostileWorld, party: Party, topic: str, payload: bytes) -> str:
    """Hand a message to a party; why it was not believed, or not taken, if it was not."""
    session, core = party.session, party.core
    before = Counter(session.disbelieved), Counter(core.counts)
    party.wire.receive(Received(topic, payload), party.wire.connection)
    world.run(0.0)
    (why,) = [*(Counter(session.disbelieved) - before[0]), *(core.counts - before[1]), ""][:1]
    return why


def knows(world: HostileWorld, **fields: Any) -> Callable[[], bool]:
    """Whether the device has begun to fetch a version with a header like this."""

    def is_known() -> bool:
        header = world.agent_disks[ONE].header
        return header is not None and all(getattr(header, f) == v for f, v in fields.items())

    return is_known


def finish(world: HostileWorld) -> None:
    """The federation goes on, comes to rest, and all is well."""
    made = len(world.trained())
    assert world.run(2 * HOUR_S, lambda: len(world.trained()) >= made + 3)
    assert world.come_to_rest()
    world.check()


# Swapped between devices


def test_offers_of_two_devices_cannot_be_swapped() -> None:
    world = a_world()
    offers = {device: until_said(world, TOPICS.up(device), Offer) for device in (ONE, TWO)}
    for device, other in ((ONE, TWO), (TWO, ONE)):
        why = tell(world, world.coordinator, TOPICS.up(other), offers[device])
        assert why == f"{device} has no right to it"
    finish(world)
    assert set(world.coordinator_disk.applied) == world.trained()


def test_a_receipt_for_one_device_says_nothing_to_another() -> None:
    world = a_world()
    receipt = until_said(world, TOPICS.down(TWO), Receipt)
    why = tell(world, world.agents[ONE], DOWN, receipt)
    assert why == "the signature is wrong: altered, or moved to here"
    assert tell(world, world.agents[ONE], TOPICS.down(TWO), receipt) == "unexpected message"


def test_chunks_of_two_devices_cannot_be_swapped() -> None:
    world = a_world()
    chunks = {device: until_said(world, TOPICS.up(device), Chunk) for device in (ONE, TWO)}
    assert tell(world, world.coordinator, TOPICS.up(TWO), chunks[ONE]) == "unexpected message"
    assert tell(world, world.coordinator, TOPICS.up(ONE), chunks[TWO]) == "unexpected message"
    finish(world)


# Played again


def test_the_receipt_of_one_update_is_none_for_the_next() -> None:
    world = a_world(devices=1, aggregation={"trigger": "immediate"})
    receipt = until_said(world, DOWN, Receipt, sequence=0)
    until_said(world, UP, Offer, sequence=1)
    agent = world.agents[ONE]
    assert list(agent.disk.offers) == [1]
    assert tell(world, agent, DOWN, receipt) == ""  # true, and heard before
    message: Any = body(receipt)
    forged = receipt.replace(encode(message), encode(message.model_copy(update={"sequence": 1})))
    assert forged != receipt
    assert tell(world, agent, DOWN, forged) == "the signature is wrong: altered, or moved to here"
    assert list(agent.disk.offers) == [1]
    finish(world)
    assert set(world.coordinator_disk.applied) == world.trained()


@pytest.mark.parametrize("is_whole", [True, False], ids=["fetched", "half fetched"])
def test_an_old_header_is_not_believed_after_a_restart(is_whole: bool) -> None:
    world = a_world(devices=1, aggregation={"trigger": "immediate"})
    old = until_said(world, TOPICS.model, Header, version=0)
    assert world.run(HOUR_S, knows(world, version=3))
    assert world.run(60.0, lambda: world.agents[ONE].core.work.phase is Phase.TRAINING)
    world.coordinator.kill()
    if not is_whole:
        world.agent_disks[ONE].store.popitem()
    world.restart_agent(ONE)
    world.broker.retained[TOPICS.model] = old
    agent = world.agents[ONE]
    world.run(600.0)
    assert tell(world, agent, TOPICS.model, old) == ""
    assert agent.disk.header.version == 3
    assert (agent.core.work.newest is not None) is is_whole
    world.restart_coordinator()
    finish(world)
    assert set(world.coordinator_disk.applied) == world.trained()


@pytest.mark.parametrize("restart", [True, False])
def test_a_header_of_an_earlier_ledger_is_not_believed(restart: bool) -> None:
    world = a_world(devices=1, take_over=True)
    assert world.run(HOUR_S, lambda: len(world.coordinator_disk.versions) == 3)
    old = said(world, TOPICS.model, Header, version=2)
    world.found_anew()
    agent = world.agents[ONE]
    assert world.run(HOUR_S, knows(world, ledger=b"ledger-2"))
    assert world.run(60.0, lambda: agent.core.work.phase is Phase.TRAINING)
    assert world.come_to_rest()
    if restart:
        world.restart_agent(ONE)
    world.broker.retained[TOPICS.model] = old
    agent = world.agents[ONE]
    world.run(5.0)
    assert tell(world, agent, TOPICS.model, old) == ""
    assert agent.disk.header.ledger == agent.core.work.newest.ledger == b"ledger-2"
    world.training = True
    finish(world)


def test_an_offer_of_a_device_that_was_wiped_since_counts_once_as_it_did() -> None:
    world = a_world(aggregation={"trigger": "immediate"})
    until_said(world, DOWN, Receipt, sequence=0)
    offer, outbox = said(world, UP, Offer, sequence=0), world.agent_disks[ONE].outbox
    world.wipe(ONE)
    for _ in range(5):
        assert tell(world, world.coordinator, UP, offer) == ""
        world.run(10.0)
    known = said(world, DOWN, Receipt, outbox=outbox, sequence=0)
    assert body(known).verdict == "known"
    finish(world)
    assert list(world.coordinator_disk.applied).count(cv.UpdateId(ONE, outbox, 0)) == 1


# With keys


def forged_header(world: HostileWorld, epoch: int) -> bytes:
    """What a thief of the coordinator's key of this epoch would have devices train on."""
    assert world.trust is not None
    header: Any = body(said(world, TOPICS.model, Header))
    later = header.model_copy(update={"version": header.version + 1, "boot": 1000})
    signer = world.trust.signer("", epoch)
    return signer.sign(Publish(TOPICS.model, encode(later))).payload


@pytest.mark.parametrize("restart", [True, False])
def test_a_former_key_of_the_coordinator_is_not_believed_once_the_next_is_known(
    restart: bool,
) -> None:
    world = a_world(devices=1)
    until_said(world, TOPICS.model, Header)
    world.renew_signer()
    assert world.run(HOUR_S, knows(world, signer=2))
    if restart:
        world.restart_agent(ONE)
        world.run(0.5)
    agent = world.agents[ONE]
    why = tell(world, agent, TOPICS.model, forged_header(world, epoch=1))
    assert why == "the credential was replaced or revoked"
    assert agent.core.work.newest.boot < 1000
    finish(world)
    assert set(world.coordinator_disk.applied) == world.trained()


def test_an_update_that_was_stolen_at_the_broker_is_refused_to_the_thief() -> None:
    world = a_world(Malice(theft=1.0))
    finish(world)
    refused = world.coordinator_disk.refused
    assert len(refused) >= 3
    assert set(refused.values()) == {Reason.BAD_SEAL}
    assert {id.device for id in refused} == {THIEF}
    details = {line.facts["detail"] for line in world.coordinator.logs if "refused" in line.text}
    assert details == {"it does not open: sealed for another key or place, or altered since"}
    assert set(world.coordinator_disk.applied) == world.trained()


LIES: dict[str, Callable[[list[Any]], None]] = {
    "federation": lambda facts: facts.__setitem__(0, "flockwise/other"),
    "device": lambda facts: facts.__setitem__(1, TWO),
    "outbox": lambda facts: facts.__setitem__(2, b"another1"),
    "sequence": lambda facts: facts.__setitem__(3, facts[3] + 1),
    "ledger": lambda facts: facts.__setitem__(4, b"another1"),
    "base version": lambda facts: facts.__setitem__(5, facts[5] + 1),
    "codec": lambda facts: facts.__setitem__(6, "float32"),
}


@pytest.mark.parametrize("what", LIES)
def test_an_update_that_was_sealed_for_another(what: str) -> None:
    """... federation, device, sequence, version and so on is refused as it is."""
    world = a_world(devices=2)
    trust = world.trust
    assert trust is not None
    honestly = trust.sealed

    def falsely(device: str, outbox: bytes, sequence: int, header: Header) -> tuple[bytes, bytes]:
        payload, sealed = honestly(device, outbox, sequence, header)
        if device != ONE:
            return payload, sealed
        facts = [trust.federation, device, outbox, sequence, header.ledger, header.version, "int8"]
        LIES[what](facts)
        return payload, seal(payload, header.seal, about(*facts))

    trust.sealed = falsely  # type: ignore[method-assign]
    finish(world)
    mine = {id for id in world.trained() if id.device == ONE}
    disk = world.coordinator_disk
    assert set(disk.refused) == mine
    assert set(disk.refused.values()) == {Reason.BAD_SEAL}
    assert set(disk.applied) == world.trained() - mine
    told = [line for line in world.agents[ONE].logs if line.text == "update refused"]
    assert told[0].facts["reason"].startswith("bad seal: it does not open")


def test_a_version_without_a_key_to_seal_to_is_not_trained_on() -> None:
    world = a_world(devices=1)
    assert world.trust is not None
    world.trust.keyring.current = b""
    world.restart_coordinator()
    agent = world.agents[ONE]
    assert not world.run(HOUR_S, lambda: bool(agent.disk.committed))
    (line,) = [line for line in agent.logs if line.text == "version cannot be used"]
    assert line.facts["fault"] == "it names no key to seal updates to"


def test_an_update_that_is_not_sealed_is_refused() -> None:
    world = a_world(devices=1)
    offer: Any = body(until_said(world, UP, Offer))
    signer = world.trust.signer(THIEF)  # type: ignore[union-attr]
    bare = signer.sign(Publish(TOPICS.up(THIEF), encode(offer.model_copy(update={"seal": b""}))))
    world.broker.said.add((bare.topic, bare.payload))
    assert tell(world, world.coordinator, bare.topic, bare.payload) == ""
    assert set(world.coordinator_disk.refused.values()) == {Reason.BAD_SEAL}
    (line,) = [line for line in world.coordinator.logs if line.text == "update refused"]
    assert line.facts["detail"] == "it is sealed for nobody"


def test_an_update_that_was_sealed_before_the_key_was_renewed_still_opens() -> None:
    world = a_world(devices=2)
    assert world.run(HOUR_S, lambda: bool(world.agent_disks[ONE].offers))
    world.coordinator.kill()
    seal_of = {offer.seal for offer in world.agent_disks[ONE].offers.values()}
    world.renew_seal()
    finish(world)
    assert set(world.coordinator_disk.applied) == world.trained()
    seals = {offer.seal for offer, _ in world.coordinator_disk.believed.values()}
    assert seal_of < seals


# The limits of it: a broker may always deny its service, and these words are denials


def test_a_device_that_was_told_too_early_that_the_coordinator_is_gone_hears_that_it_is_not() -> (
    None
):
    world = a_world(devices=2, aggregation={"trigger": "rounds", "min_updates": 2})
    assert world.run(HOUR_S, lambda: len(world.coordinator_disk.entered) == 1)
    assert len(world.trained()) == 1
    will = said(world, TOPICS.coordinator, CoordinatorPresence, state=State.OFFLINE)
    for agent in world.agents.values():
        assert tell(world, agent, TOPICS.coordinator, will) == ""
    # Each new draw of the round is news from the coordinator, and puts the next hello off.
    assert world.run(HOUR_S, lambda: len(world.coordinator_disk.entered) == 2)


def test_a_device_that_was_told_too_early_to_be_gone_is_back_with_its_next_connection() -> None:
    world = a_world(devices=1)
    world.run(5.0)
    online = world.coordinator.core.roster.online
    assert ONE in online
    will = said(world, TOPICS.device(ONE), DevicePresence, state=State.OFFLINE)
    assert tell(world, world.coordinator, TOPICS.device(ONE), b"") == "it is empty"
    assert ONE in online
    assert tell(world, world.coordinator, TOPICS.device(ONE), will) == ""
    assert ONE not in online
    finish(world)  # its updates are taken all the same
    world.agents[ONE].wire.cut("a new connection")
    assert world.run(60.0, lambda: ONE in online)


@pytest.mark.parametrize("party", ["coordinator", ONE])
def test_a_word_of_a_former_ledger_or_outbox_may_end_a_role_and_harms_nothing_else(
    party: str,
) -> None:
    world = a_world(aggregation={"trigger": "immediate"})
    assert world.run(HOUR_S, lambda: len(world.trained()) >= 4)
    topic = TOPICS.coordinator if party == "coordinator" else TOPICS.device(ONE)
    kind = CoordinatorPresence if party == "coordinator" else DevicePresence
    birth = said(world, topic, kind, state=State.ONLINE)
    world.found_anew() if party == "coordinator" else world.wipe(ONE)
    assert world.run(HOUR_S, lambda: len(world.trained()) >= 8)
    tell(world, world.coordinator if party == "coordinator" else world.agents[ONE], topic, birth)
    assert [line.partition(":")[0] for line in world.who_stopped()] == [party]
    world.revive()
    finish(world)


def test_offers_that_were_refused_once_count_once_however_often_they_are_played_again() -> None:
    standing = Standing(StandingRules(), marks=(), entries={})
    refused = [cv.UpdateId(ONE, b"outbox00", sequence) for sequence in (0, 1)]
    for _ in range(50):
        for id in refused:
            assert not standing.refused(id, Reason.NOT_FINITE, version=3)
    assert standing.rows[ONE].refusals == 2


# What these tests stand on


def test_a_piece_of_an_update_that_was_read_would_be_noticed() -> None:
    world = a_world(devices=1)
    finish(world)
    (_, payload), *_ = world.made().values()
    world.broker.read.add(b"before" + payload[700:716] + b"after")
    with pytest.raises(AssertionError, match="has read a piece"):
        world.check()


def test_a_message_that_was_wrongly_believed_would_be_noticed() -> None:
    world = a_world(devices=1)
    world.run(5.0)
    message: Message | None = body(said(world, TOPICS.model, Header))
    assert isinstance(message, Header)
    signer = world.trust.signer("")  # type: ignore[union-attr]
    forged = signer.sign(Publish(TOPICS.model, encode(message.model_copy(update={"draw": 7}))))
    with pytest.raises(AssertionError, match="nobody said it"):
        tell(world, world.agents[ONE], TOPICS.model, forged.payload)
