"""The coordinator in virtual time: the real core; ledger, spool and versions are dicts.

Updates are decoded, screened and combined by the product's own functions.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from config.settings import CoordinatorSettings
from coordinator import vocabulary as cv
from coordinator.combiner import succeed
from coordinator.core import CoordinatorCore
from coordinator.presence import Self
from coordinator.ranges import Encoded
from coordinator.screening import LARGEST_NORM, norm_of
from coordinator.versions import as_received
from experiments.simulation.party import VirtualParty
from federation.compression import Vector, encode, plain, unpacked
from federation.layout import Layout
from federation.loopback import LoopbackBroker
from federation.machine import Publish
from federation.messages import Chunk, Reason, State
from federation.messages import encode as encode_message
from federation.session import Identity
from federation.sizes import CodecError
from federation.topics import Topics
from federation.transfer import manifest_of

# Begins to test a version, Float32[d], whose figures are due at a virtual time; gives them then.
Test: TypeAlias = Callable[[int, Vector, float], Callable[[], cv.Evaluated]]


def at_once(figures: Callable[[int, Vector], dict[str, float]]) -> Test:
    """A test whose figures are there as soon as they are asked for."""

    def test(version: int, model: Vector, due_s: float) -> Callable[[], cv.Evaluated]:
        event = cv.Evaluated(version, figures(version, model))
        return lambda: event

    return test


SCREENING_S = 0.01
COMBINING_S = 0.05
TESTING_S = 0.5


@dataclass(frozen=True, slots=True)
class Made:
    """A version that came about: when, on the virtual clock, of what, and what was left out."""

    version: int
    at_s: float
    contributions: tuple[cv.Contribution, ...]
    outliers: frozenset[cv.UpdateId]


class VirtualCoordinator(VirtualParty):
    """One coordinator, from version 0 on."""

    def __init__(
        self,
        settings: CoordinatorSettings,
        model: Vector,
        layout: Layout,
        test: Test,
        broker: LoopbackBroker,
        topics: Topics,
        chance: random.Random,
    ) -> None:
        """Begin.

        Args:
            model: Float32[d], version 0.
            test: asked about the versions that the settings want tested.
        """
        super().__init__(broker, chance)
        self.history: list[Made] = []
        self.tested: dict[int, dict[str, float]] = {}
        self.refused: Counter[str] = Counter()
        self.quarantined: list[str] = []
        self.on_version: Callable[[Made], None] = lambda made: None
        self.on_report: Callable[[float, cv.Report], None] = lambda at_s, report: None
        self._settings = settings
        self._layout = layout
        self._test = test
        self._topics = topics
        self._spool: dict[cv.UpdateId, dict[int, bytes]] = {}
        self._codecs: dict[cv.UpdateId, str] = {}
        self._models: dict[int, Vector] = {}
        self._payloads: dict[int, bytes] = {}
        self._state: dict[str, Vector] = {}
        ledger = hashlib.blake2b(b"ledger", digest_size=8).digest()
        me = Self(ledger, chance.randbytes(8), 1)
        memory = cv.Recollection(ledger, self._keep(0, model), {}, ())
        self.core: CoordinatorCore = CoordinatorCore(me, topics, settings, memory)

        def will(incarnation: int) -> Publish:
            gone = me.presence(State.OFFLINE, incarnation)
            return Publish(topics.coordinator, encode_message(gone), retain=True)

        self.connect(Identity(topics.coordinator, topics.standing_filters(), will, 1))

    @property
    def model(self) -> Vector:
        """The newest version, Float32[d]."""
        return self._models[max(self._models)]

    def do(self, effect: Any) -> None:
        """What the coordinator's shell does with files."""
        match effect:
            case cv.OpenUpload(id=id):
                held = frozenset(self._spool.setdefault(id, {}))
                self.tell(cv.UploadOpened(id, held))
            case cv.WriteChunk(id=id, offset=offset, data=data):
                self._spool[id][offset] = data
            case cv.DropUpload(id=id):
                self._spool.pop(id, None)
            case cv.Screen(id=id, offer=offer):
                self._codecs[id] = offer.codec
                self.tell_later(SCREENING_S, self._screened(id))
            case cv.Judge(id=id, refusal=refusal):
                if refusal is not None:
                    self.refused[str(refusal)] += 1
                    self._spool.pop(id, None)
                self.tell(cv.Judged(effect))
            case cv.Combine():
                self._time.call_in(COMBINING_S, lambda: self._combine(effect))
            case cv.Announce(info=info, slot=slot, header=header):
                self._announce(info, slot, header)
            case cv.ServeChunk(topic=topic, version=version, index=index):
                if version in self._payloads:
                    chunk = self._chunk(version, index)
                    self.session.publish(Publish(topic, chunk, qos=0))
            case cv.Evaluate(version=version):
                figures = self._test(version, self._as_sent(version), self._time.now_s + TESTING_S)
                self._time.call_in(TESTING_S, lambda: self._evaluated(figures()))
            case cv.Clean(oldest=oldest):
                for version in [version for version in self._models if version < oldest]:
                    del self._models[version], self._payloads[version]
            case cv.Report():
                self.on_report(self._time.now_s, effect)
            case cv.Sweep() | cv.Quarantine() | cv.SetAside():
                pass
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _evaluated(self, event: cv.Evaluated) -> None:
        self.tested[event.version] = dict(event.metrics)
        self.handle(event)

    def _screened(self, id: cv.UpdateId) -> cv.Screened:
        try:
            norm = norm_of(self._delta(id), self._layout.size, threads=1)
        except CodecError as error:
            return cv.Screened(id, 0.0, Reason.BAD_SHAPE, str(error))
        if not norm <= LARGEST_NORM:
            return cv.Screened(id, 0.0, Reason.NOT_FINITE, "not finite, or too large")
        return cv.Screened(id, norm, None)

    def _delta(self, id: cv.UpdateId) -> Encoded:
        chunks, codec, d = self._spool[id], self._codecs[id], self._layout.size
        payload = b"".join(chunks[offset] for offset in sorted(chunks))
        return Encoded(plain(codec), unpacked(codec, payload, d), d)

    def _combine(self, order: cv.Combine) -> None:
        with np.errstate(over="ignore", invalid="ignore"):  # some attacks leave the finite numbers
            made = succeed(
                self._settings.aggregation,
                self._models[order.base_version],
                self._state,
                order.contributions,
                read=self._delta,
                base=self._as_sent,
                threads=1,
            )
        self._state = made.state
        version = order.base_version + 1
        info = self._keep(version, made.model)
        for part in order.contributions:
            self._spool.pop(part.id, None)
            self._codecs.pop(part.id, None)
        self.history.append(Made(version, self._time.now_s, order.contributions, made.outliers))
        self.on_version(self.history[-1])
        self.handle(cv.Combined(info, order.contributions, made.outliers))

    def _keep(self, version: int, model: Vector) -> cv.VersionInfo:
        self._models[version] = model
        codec = self._settings.transfer.model_codec
        self._payloads[version] = payload = encode(codec, model)
        manifest = manifest_of(payload, self._settings.transfer.chunk_bytes)
        return cv.VersionInfo(version, codec, manifest, self._layout)

    def _as_sent(self, version: int) -> Vector:
        return as_received(self._settings.transfer.model_codec, self._models[version])

    def _announce(self, info: cv.VersionInfo, slot: int, header: bytes) -> None:
        for index in range(info.payload.count):
            topic = self._topics.model_chunk(slot, index)
            chunk = self._chunk(info.version, index)
            self.session.publish(Publish(topic, chunk, qos=0, retain=True))
        self.session.publish(Publish(self._topics.model, header, retain=True))

    def _chunk(self, version: int, index: int) -> bytes:
        size = self._settings.transfer.chunk_bytes
        data = self._payloads[version][index * size : (index + 1) * size]
        return Chunk(version, index, data).encode()
