"""Over slow links: hardly a chunk is carried twice, and small messages do not wait for long."""

from __future__ import annotations

from typing import Any

import pytest

from config.settings import Transfer, UploadLimits
from coordinator.uploads import Uploads
from coordinator.vocabulary import OpenUpload, Screen, WriteChunk
from device_agent.delivery import Delivery
from device_agent.fetching import Fetch
from device_agent.vocabulary import SendChunk, StoreChunk
from federation.loopback import Faults, LoopbackBroker, LoopbackSession
from federation.machine import Linked, Moment, Publish, Received, Subscribe, Unlinked, Unsubscribe
from federation.messages import Chunk, Offer, Request, Want, decode
from federation.session import Identity
from federation.transfer import manifest_of
from federation.virtual_time import VirtualTime
from tests.specimens import TOPICS, a_header, an_id, an_offer

CHUNK_BYTES = 120 * 1024
COUNT = 12
SIZE = COUNT * CHUNK_BYTES
PAYLOAD = b"".join(bytes([n]) * CHUNK_BYTES for n in range(COUNT))
MANIFEST = manifest_of(PAYLOAD, CHUNK_BYTES)
TRANSFER = Transfer(chunk_bytes=CHUNK_BYTES)
UP, DOWN = TOPICS.up("one"), TOPICS.down("one")
rates = pytest.mark.parametrize("rate", [10_000, 20_000, 30_000, 50_000, 100_000, 1_000_000])


def piece(key: int, index: int) -> bytes:
    return Chunk(key, index, PAYLOAD[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]).encode()


class Wire:
    """A device on a slow link, a coordinator on a fast one, a broker between them."""

    def __init__(self, rate: float, cached: bool = True) -> None:
        self.time = VirtualTime()
        self.broker = LoopbackBroker(self.time)
        self.coordinator = self.session("coordinator", UP, self.at_coordinator)
        self.coordinator.start()
        self.time.run_until(lambda: False, 0.1)
        self.broker.faults = Faults(bandwidth=rate)
        self.device = self.session("device", DOWN, self.at_device)
        self.fetch: Fetch | None = None
        self.delivery = Delivery(UP, (), TRANSFER.silence_s)
        self.uploads = Uploads(TOPICS, TRANSFER, UploadLimits())
        self.screened = False
        self.offers = 0
        self.longest_wait_s = 0.0
        if cached:
            for index in range(COUNT):
                self.broker.retained[TOPICS.model_chunk(1, index)] = piece(1, index)
        self.device.start()
        self.time.run_until(lambda: False, 0.2)

    def session(self, name: str, topic: str, hears: Any) -> LoopbackSession:
        def will(_incarnation: int) -> Publish:
            return Publish("gone", b"")

        return LoopbackSession(self.broker, Identity(name, (topic,), will, 1), hears)

    @property
    def moment(self) -> Moment:
        return Moment(self.time.now_s, 0.5)

    def download(self) -> None:
        header = a_header(bytes(8), version=1, slot=1).model_copy(update={"payload": MANIFEST})
        self.fetch = fetch = Fetch(header, (), TOPICS, "one", TRANSFER)
        self.tick()
        assert self.time.run_until(lambda: fetch.complete, 3600)

    def upload(self) -> None:
        self.delivery.resume(self.moment)
        self.delivery.add(OFFER, self.moment)
        self.tick()
        assert self.time.run_until(lambda: self.screened, 3600)

    def tick(self) -> None:
        """What is due on the device, and a look at what a small message would wait now."""
        effects = self.delivery.advance(self.moment)
        if self.fetch is not None and not self.fetch.complete:
            effects += self.fetch.hurry(self.moment) + self.fetch.advance(self.moment)
        self.carry_out(effects, self.device)
        rate = self.broker.faults.bandwidth or 1.0
        lines = self.device.uplink, self.device.downlink
        backlog = max(line.backlog_bytes for line in lines)
        self.longest_wait_s = max(self.longest_wait_s, backlog / rate)
        due_s = min(self.delivery.due_s, self.fetch.due_s if self.fetch else 1e9)
        self.time.call_at(min(due_s, self.time.now_s + 0.5), self.tick)

    def at_device(self, event: Any) -> None:
        match event:
            case Received():
                message = decode(event.payload)
                if isinstance(message, Want):
                    self.carry_out(self.delivery.want(message, self.moment), self.device)
                if isinstance(message, Chunk) and self.fetch is not None:
                    taken = self.fetch.chunk(message, message.index, self.moment)
                    self.carry_out(taken or [], self.device)
                    self.carry_out(self.fetch.advance(self.moment), self.device)
            case Unlinked():
                self.delivery.pause()
            case Linked() if self.offers:
                self.delivery.resume(self.moment)

    def at_coordinator(self, event: Any) -> None:
        if not isinstance(event, Received):
            return
        match decode(event.payload):
            case Offer():
                self.offers += 1
                effects = self.uploads.offered(an_id("one"), OFFER, self.moment)
            case Chunk() as chunk:
                effects = self.uploads.chunk("one", chunk, self.moment) or []
            case Request() as request:
                effects = [Publish(DOWN, piece(1, index), qos=0) for index in request.chunks]
            case other:
                raise AssertionError(f"unexpected {other}")
        self.carry_out(effects, self.coordinator)

    def carry_out(self, effects: Any, session: LoopbackSession) -> None:
        for effect in effects:
            match effect:
                case Publish():
                    session.publish(effect)
                case Subscribe():
                    session.subscribe(effect.topics)
                case Unsubscribe():
                    session.unsubscribe(effect.topics)
                case SendChunk():
                    session.publish(Publish(UP, piece(0, effect.index), qos=0))
                case OpenUpload():
                    opened = self.uploads.opened(effect.id, frozenset(), self.moment)
                    self.carry_out(opened, session)
                case Screen():
                    self.screened = True
                case StoreChunk() | WriteChunk():
                    pass
                case other:
                    raise AssertionError(f"unexpected {other}")


OFFER = an_offer().model_copy(update={"payload": MANIFEST})


@rates
def test_what_goes_down_a_slow_link_goes_hardly_more_than_once(rate: float) -> None:
    wire = Wire(rate)
    wire.download()
    _, received = wire.device.traffic
    left = wire.device.downlink.backlog_bytes
    assert SIZE <= received + left <= 1.3 * SIZE


@rates
def test_what_goes_up_a_slow_link_goes_hardly_more_than_once(rate: float) -> None:
    wire = Wire(rate)
    wire.upload()
    sent, _ = wire.device.traffic
    assert SIZE <= sent <= 1.3 * SIZE
    assert wire.offers <= 10


@rates
def test_both_ways_at_once_hardly_more_than_once(rate: float) -> None:
    wire = Wire(rate)
    wire.delivery.resume(wire.moment)
    wire.delivery.add(OFFER, wire.moment)
    wire.download()
    assert wire.time.run_until(lambda: wire.screened, 3600)
    sent, received = wire.device.traffic
    assert sent <= 1.3 * SIZE
    assert received <= 1.3 * SIZE


@rates
def test_a_small_message_waits_for_a_few_chunks_and_no_longer(rate: float) -> None:
    wire = Wire(rate)
    wire.download()
    wire.upload()
    assert wire.longest_wait_s <= max(1.5, 4.1 * CHUNK_BYTES / rate)


@rates
def test_what_no_cache_has_comes_from_the_coordinator_without_a_wait_per_chunk(rate: float) -> None:
    wire = Wire(rate, cached=False)
    wire.download()
    assert wire.time.now_s < 30 + 1.3 * SIZE / rate


@pytest.mark.parametrize("rate", [10_000, 100_000])
def test_chunks_that_were_lost_with_a_connection_are_soon_asked_for_again(rate: float) -> None:
    wire = Wire(rate)
    wire.delivery.resume(wire.moment)
    wire.delivery.add(OFFER, wire.moment)
    wire.tick()
    wire.time.run_until(lambda: False, 3 * CHUNK_BYTES / rate)
    wire.device.cut("a bad moment")
    assert wire.time.run_until(lambda: wire.screened, 20 + 1.4 * SIZE / rate)
    sent, _ = wire.device.traffic
    assert sent <= 1.3 * SIZE
