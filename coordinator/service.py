"""`flockwise coordinator run`: the shell that carries the coordinator's effects out.

The loop's thread owns the ledger and the session. Screening and combining run one after another in
a thread aside, evaluation in a process of its own; both come back as calls into the loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from os import urandom
from typing import Any

from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import CoordinatorSettings
from coordinator.combiner import combine, screen
from coordinator.core import CoordinatorCore, Self
from coordinator.evaluation import Evaluator
from coordinator.genesis import ensure_first_version
from coordinator.ledger import Ledger
from coordinator.record import LEDGER
from coordinator.reporting import Reporter, Sink
from coordinator.spool import Spool
from coordinator.versions import Versions
from coordinator.vocabulary import (
    Announce,
    Combine,
    Combined,
    CoordinatorEffect,
    DropUpload,
    Enter,
    Evaluate,
    Evaluated,
    OpenUpload,
    Recollection,
    Refuse,
    Report,
    Screen,
    ServeChunk,
    UploadOpened,
    VersionInfo,
    WriteChunk,
)
from coordinator.wandb_sink import WandbSink
from federation.incarnation import last_of_start
from federation.machine import Level, Log, Publish, Stop
from federation.messages import Chunk, Header, MessageError, State, encode
from federation.paho_session import PahoSession
from federation.session import HIGH_WATER_BYTES, Identity
from federation.shell import Shell, end_with
from federation.state_directory import StateDirectory, in_state_directory
from federation.topics import Topics

FAREWELL_S = 10.0


def main(argv: Sequence[str]) -> int:
    """Run a coordinator until it is told to stop, or the last version is made."""
    settings = load(CoordinatorSettings, argv, prog="flockwise coordinator run")
    logs.configure("coordinator", settings.log_level, settings.log_format)
    return run(settings).exit_code


def run(settings: CoordinatorSettings) -> Stop:
    """As `main`, from settings.

    Raises:
        Failure: another coordinator is there, or a file or the broker cannot be had.
    """
    if settings.test_set is not None and not settings.test_set.is_file():
        raise Failure(ExitCode.NO_INPUT, f"test_set {settings.test_set} is not a file")
    with in_state_directory(settings.state_dir) as (directory, closing):
        stop = _Service(settings, directory, closing).run()
    return end_with(stop)


class _Service:
    def __init__(
        self, settings: CoordinatorSettings, directory: StateDirectory, closing: ExitStack
    ) -> None:
        self._settings = settings
        self._shell = Shell("coordinator")
        self._ledger = Ledger(directory.path / LEDGER)
        closing.callback(self._ledger.close)
        self._spool = Spool(directory.folder("spool"))
        self._versions = Versions(directory.folder("versions"), settings.transfer.chunk_bytes)
        self._layout = ensure_first_version(
            settings, self._ledger, self._versions, directory.folder("spool")
        )
        self._reporter = Reporter(directory.path / "reports.jsonl", self._sinks(directory))
        closing.callback(self._reporter.close)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        closing.callback(self._aside.shutdown, cancel_futures=True)
        self._evaluator = Evaluator(settings, self._versions, self._layout, self._tested)
        closing.callback(self._evaluator.close)
        self._topics = Topics(settings.federation.prefix, settings.federation.name)
        self._me = Self(self._ledger.identity, urandom(8), self._ledger.boots)
        self._bulk: Iterator[Publish] = iter(())
        self._session = PahoSession(settings.link, self._identity(), self._shell.put)
        self._core = CoordinatorCore(self._me, self._topics, settings, self._remember())

    def run(self) -> Stop:
        """Loop until the core or a signal says stop; then say goodbye."""
        progression = self._core.progression
        version = progression.current.version
        _require_encodable(progression.header())
        if progression.finished and not progression.test_is_due:
            text = f"version {version} is the last one; nothing is left to do"
            self._shell.tell(Log(Level.INFO, text))
            return Stop(ExitCode.OK, text)
        stop = self._shell.run(
            self._core, self._session, self._settings.link, self._carry_out, self._publish_bulk
        )
        if stop.exit_code == ExitCode.OK:
            self._finish_bulk()
        # Nobody is told that the coordinator is gone when another one has taken its place.
        known = None if stop.exit_code == ExitCode.DUPLICATE else self._farewell()
        self._session.stop(known)
        return stop

    def _sinks(self, directory: StateDirectory) -> tuple[Sink, ...]:
        if self._settings.reporting.wandb == "off":
            return ()
        run_id = self._ledger.identity.hex()
        return (WandbSink(self._settings, directory.path, run_id),)

    def _identity(self) -> Identity:
        def will(incarnation: int) -> Publish:
            gone = self._me.presence(State.OFFLINE, incarnation)
            return Publish(self._topics.coordinator, encode(gone), retain=True)

        # With the ledger in it, as a second coordinator must not take the first one's link down.
        return Identity(
            client_id=f"{self._topics.coordinator}/{self._me.ledger.hex()}",
            filters=self._topics.standing_filters(),
            will=will,
            boot=self._ledger.boots,
        )

    def _farewell(self) -> Publish:
        gone = self._me.presence(State.OFFLINE, last_of_start(self._me.boot))
        return Publish(self._topics.coordinator, encode(gone), retain=True)

    def _remember(self) -> Recollection:
        newest = self._ledger.newest_version()
        assert newest is not None, "the first version is made before anything is remembered"
        return Recollection(
            ledger=self._ledger.identity,
            current=self._versions.info(newest, self._layout),
            settled=self._ledger.settled(),
            buffer=self._ledger.buffer(),
            tested=newest == 0 or self._ledger.is_tested(newest),
        )

    def _carry_out(self, effect: CoordinatorEffect) -> None:
        match effect:
            case OpenUpload():
                held = self._spool.open(effect.id, effect.payload)
                self._shell.put(UploadOpened(effect.id, held))
            case WriteChunk():
                self._spool.write(effect.id, effect.offset, effect.data)
            case DropUpload():
                self._spool.drop(effect.id)
            case Screen():
                self._do_aside(
                    lambda: screen(self._spool, self._layout, effect.id, effect.offer),
                    lambda screened: screened,
                )
            case Enter():
                self._ledger.enter(effect.accepted.id, effect.offer, effect.norm)
            case Refuse():
                self._ledger.refuse(effect.id, effect.offer, effect.reason, effect.detail)
                self._spool.drop(effect.id)
            case Combine():
                self._combine(effect)
            case Announce():
                self._bulk = self._announcement(effect)
                self._publish_bulk()
            case ServeChunk():
                self._serve(effect)
            case Evaluate():
                self._evaluator.evaluate(effect.version)
            case Report():
                self._reporter.write(effect)
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _do_aside(self, work: Callable[[], Any], finish: Callable[[Any], object]) -> None:
        """Run `work` in the thread aside and then `finish` with its result in the loop."""

        def done(future: Future[Any]) -> None:
            if not future.cancelled():
                self._shell.call(lambda: finish(future.result()))

        self._aside.submit(work).add_done_callback(done)

    def _combine(self, order: Combine) -> None:
        codecs = self._ledger.codecs(part.id for part in order.contributions)
        rule = self._settings.aggregation

        def work() -> VersionInfo:
            return combine(rule, self._versions, self._spool, self._layout, codecs, order)

        def finish(info: VersionInfo) -> Combined:
            self._ledger.add_version(info.version, order.contributions, rule)
            self._clean(info.version)
            return Combined(info, order.contributions)

        self._do_aside(work, finish)

    def _tested(self, event: Evaluated) -> None:
        """A test ended, in the thread of the worker's handle."""

        def finish() -> Evaluated:
            self._evaluator.next()
            if not event.problem:
                self._ledger.add_metrics(event.version, event.metrics)
            return event

        self._shell.call(finish)

    def _clean(self, newest: int) -> None:
        """Delete versions, and the updates in them, that are older than the settings keep.

        A version stays for as long as an accepted update that waits is based on it.
        """
        bases = [accepted.base_version for accepted in self._ledger.buffer()]
        oldest = min([newest - self._settings.keep_versions + 1, *bases])
        for version in self._versions.stored():
            if version < oldest:
                for id in self._ledger.contributors(version):
                    self._spool.drop(id)
        self._versions.keep(oldest)

    # Bulk goes out only as fast as the link takes it

    def _announcement(self, order: Announce) -> Iterator[Publish]:
        version = order.info.version
        for index in range(order.info.payload.count):
            data = self._versions.chunk(version, index)
            if data is None:
                return
            topic = self._topics.model_chunk(order.slot, index)
            yield Publish(topic, Chunk(version, index, data).encode(), qos=0, retain=True)
        yield Publish(self._topics.model, order.header, retain=True)

    def _publish_bulk(self) -> bool:
        """Publish while there is room; whether everything is out."""
        while self._session.backlog_bytes < HIGH_WATER_BYTES:
            message = next(self._bulk, None)
            if message is None:
                return True
            if not self._session.publish(message):
                # The link broke: the core announces anew when it is back.
                self._bulk = iter(())
                return True
        return False

    def _finish_bulk(self) -> None:
        end_s = time.monotonic() + FAREWELL_S
        while time.monotonic() < end_s:
            if self._publish_bulk() and self._session.backlog_bytes == 0:
                return
            time.sleep(0.02)

    def _serve(self, order: ServeChunk) -> None:
        data = self._versions.chunk(order.version, order.index)
        # Without room it is left out: the device asks again.
        if data is not None and self._session.backlog_bytes < HIGH_WATER_BYTES:
            chunk = Chunk(order.version, order.index, data).encode()
            self._session.publish(Publish(order.topic, chunk, qos=0))


def _require_encodable(header: Header) -> None:
    """Say at the start, not in the middle, that a header is too large to be published."""
    try:
        encode(header)
    except MessageError as error:
        raise Failure(ExitCode.CONFIG, f"transfer.chunk_bytes: {error}") from None
