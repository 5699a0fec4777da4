"""`flockwise coordinator run`: the shell that carries the coordinator's effects out.

The loop's thread owns the ledger and the session. Screening and combining run one after another in
a thread aside, evaluation in a process of its own; both come back as calls into the loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from os import urandom
from typing import Any

from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import CoordinatorSettings
from coordinator.broadcast import Broadcast
from coordinator.combiner import combine, screen
from coordinator.core import CoordinatorCore, Self
from coordinator.evaluation import Evaluator
from coordinator.genesis import ensure_first_version
from coordinator.ledger import Ledger
from coordinator.record import LEDGER
from coordinator.reporting import Reporter, Sink
from coordinator.spool import Spool
from coordinator.status import status_of
from coordinator.versions import Versions
from coordinator.vocabulary import (
    Announce,
    Clean,
    Combine,
    Combined,
    CoordinatorEffect,
    DropUpload,
    Evaluate,
    Evaluated,
    Judge,
    Judged,
    OpenUpload,
    Recollection,
    Report,
    Screen,
    ServeChunk,
    Sweep,
    UploadOpened,
    VersionInfo,
    WriteChunk,
)
from coordinator.wandb_sink import WandbSink
from federation.files import is_storage_full
from federation.incarnation import last_of_start
from federation.machine import Level, Log, Publish, Stop
from federation.messages import Header, MessageError, State, encode
from federation.paho_session import PahoSession
from federation.role import run_role
from federation.session import Identity
from federation.shell import Shell, end_with
from federation.state_directory import (
    StateDirectory,
    in_state_directory,
    when_there_is_room,
)
from federation.status_board import StatusBoard
from federation.topics import Topics
from federation.watch import Watch


def main(argv: Sequence[str]) -> int:
    """Run a coordinator until it is told to stop, or the last version is made."""
    return run_role(lambda: load(CoordinatorSettings, argv, prog="flockwise coordinator run"), run)


def run(settings: CoordinatorSettings, reload: Callable[[], Stop | None] = lambda: None) -> Stop:
    """As `main`, from settings.

    Args:
        reload: asked when the settings may have changed.

    Raises:
        Failure: another coordinator is there, or a file or the broker cannot be had.
    """
    logs.configure("coordinator", settings.log_level, settings.log_format)
    if settings.test_set is not None and not settings.test_set.is_file():
        raise Failure(ExitCode.NO_INPUT, f"test_set {settings.test_set} is not a file")
    with in_state_directory(settings.state_dir) as (directory, closing):
        stop = _Service(settings, directory, closing, reload).run()
    return end_with(stop)


class _Service:
    def __init__(
        self,
        settings: CoordinatorSettings,
        directory: StateDirectory,
        closing: ExitStack,
        reload: Callable[[], Stop | None] = lambda: None,
    ) -> None:
        self._settings = settings
        board = StatusBoard(directory.path)
        watch = Watch(board, lambda: status_of(self._core, self._session), self._is_alive, reload)
        self._shell = Shell("coordinator", watch)
        self._ledger = when_there_is_room(directory.path, lambda: Ledger(directory.path / LEDGER))
        closing.callback(self._ledger.close)
        self._spool = Spool(directory.folder("spool"))
        self._versions = Versions(directory.folder("versions"), settings.transfer.chunk_bytes)
        self._layout = when_there_is_room(
            directory.path,
            lambda: ensure_first_version(
                settings, self._ledger, self._versions, directory.folder("spool")
            ),
        )
        self._reporter = Reporter(directory.path / "reports.jsonl", self._sinks(directory))
        closing.callback(self._reporter.close)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="aside")
        closing.callback(self._aside.shutdown, cancel_futures=True)
        self._evaluator = Evaluator(settings, self._versions, self._layout, self._tested)
        closing.callback(self._evaluator.close)
        self._topics = Topics(settings.federation.prefix, settings.federation.name)
        self._me = Self(self._ledger.identity, urandom(8), self._ledger.boots)
        self._session = PahoSession(
            settings.link, self._identity(), self._shell.put, self._shell.waiting_bytes
        )
        self._broadcast = Broadcast(self._session, self._versions, self._topics)
        memory = when_there_is_room(directory.path, self._remember)
        self._core = CoordinatorCore(self._me, self._topics, settings, memory)

    def run(self) -> Stop:
        """Loop until the core or a signal says stop; then say goodbye."""
        progression = self._core.progression
        version = progression.current.version
        self._clean(progression.oldest_needed())  # the last start may have been killed over it
        _require_encodable(progression.header())
        if progression.finished and not progression.test_is_due:
            text = f"version {version} is the last one; nothing is left to do"
            self._shell.tell(Log(Level.INFO, text))
            return Stop(ExitCode.OK, text)
        stop = self._shell.run(
            self._core, self._session, self._settings.link, self._carry_out, self._broadcast.go_on
        )
        if stop.exit_code == ExitCode.OK:
            self._broadcast.finish()
        # Nobody is told that the coordinator is gone when another one has taken its place.
        known = None if stop.exit_code == ExitCode.DUPLICATE else self._farewell()
        self._session.stop(known)
        return stop

    def _is_alive(self) -> bool:
        return self._session.alive

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
                    effect,
                    lambda: screen(self._spool, self._layout, effect.id, effect.offer),
                    lambda screened: screened,
                )
            case Judge():
                self._ledger.judge(effect)
                if effect.refusal is not None:
                    self._spool.drop(effect.id)
                self._shell.put(Judged(effect))
            case Sweep():
                self._sweep(effect)
            case Combine():
                self._combine(effect)
            case Clean():
                self._clean(effect.oldest)
            case Announce():
                self._broadcast.announce(effect)
            case ServeChunk():
                self._broadcast.serve(effect)
            case Evaluate():
                self._evaluator.evaluate(effect.version)
            case Report():
                self._reporter.write(effect)
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _do_aside(
        self, effect: object, work: Callable[[], Any], finish: Callable[[Any], object]
    ) -> None:
        """Run `work` in the thread aside and then `finish` with its result in the loop."""

        def done(future: Future[Any]) -> None:
            if not future.cancelled():
                self._shell.call(lambda: finish(future.result()), effect)

        self._aside.submit(work).add_done_callback(done)

    def _combine(self, order: Combine) -> None:
        codecs = self._ledger.codecs(part.id for part in order.contributions)
        rule = self._settings.aggregation

        def work() -> VersionInfo:
            return combine(rule, self._versions, self._spool, self._layout, codecs, order)

        def finish(info: VersionInfo) -> Combined:
            self._ledger.add_version(info.version, order.contributions, rule)
            return Combined(info, order.contributions)

        self._do_aside(order, work, finish)

    def _tested(self, event: Evaluated) -> None:
        """A test ended, in the thread of the worker's handle."""

        def finish() -> Evaluated:
            self._evaluator.next()
            if not event.problem:
                try:
                    self._ledger.add_metrics(event.version, event.metrics)
                except sqlite3.Error as error:
                    if not is_storage_full(error):
                        raise
                    return Evaluated(event.version, {}, "the storage is full")
            return event

        self._shell.call(finish)

    def _clean(self, oldest: int) -> None:
        for version in self._versions.stored():
            if version < oldest:
                for id in self._ledger.contributors(version):
                    self._spool.drop(id)
        self._versions.keep(oldest)

    def _sweep(self, order: Sweep) -> None:
        limits = self._settings.uploads
        deleted = self._spool.sweep(
            order.busy, self._ledger.is_accepted, limits.quota_bytes, limits.keep_s
        )
        if deleted:
            facts = {"uploads": deleted}
            self._shell.tell(Log(Level.WARNING, "unfinished uploads deleted", facts))


def _require_encodable(header: Header) -> None:
    """Say at the start, not in the middle, that a header is too large to be published."""
    try:
        encode(header)
    except MessageError as error:
        raise Failure(ExitCode.CONFIG, f"transfer.chunk_bytes: {error}") from None
