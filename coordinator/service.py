"""`flockwise coordinator run`: the shell that carries the coordinator's effects out.

The loop's thread owns the ledger and the session. Screening and combining run one after another in
a thread aside, evaluation in a process of its own; both come back as calls into the loop.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from os import urandom

from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import CoordinatorSettings
from coordinator.aside import Aside
from coordinator.broadcast import Broadcast, require_encodable
from coordinator.combiner import Made, combine, require_memory
from coordinator.core import CoordinatorCore
from coordinator.evaluation import Evaluator
from coordinator.genesis import ensure_first_version
from coordinator.keyring import SEALING, Keyring, NoKeyring
from coordinator.ledger import Ledger
from coordinator.presence import Self
from coordinator.quarantine import Attentive, enter
from coordinator.recollection import remember
from coordinator.record import LEDGER
from coordinator.screening import screen
from coordinator.sinks import open_reporter
from coordinator.spool import Spool
from coordinator.status import status_of
from coordinator.verdicts import Verdicts
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
    OpenUpload,
    Quarantine,
    Report,
    Screen,
    ServeChunk,
    SetAside,
    Sweep,
    UpdateId,
    UploadOpened,
    WriteChunk,
)
from federation.files import is_storage_full
from federation.incarnation import last_of_start
from federation.machine import Level, Log, Publish, Stop
from federation.membership import Membership, as_member
from federation.messages import State, encode
from federation.role import run_role
from federation.session import Identity
from federation.shell import Shell, end_with
from federation.signed_session import open_session
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
    settings, membership = as_member(settings, how="flockwise broker init")
    with in_state_directory(settings.state_dir) as (directory, closing):
        stop = _Service(settings, directory, closing, reload, membership).run()
    return end_with(stop)


class _Service:
    def __init__(
        self,
        settings: CoordinatorSettings,
        directory: StateDirectory,
        closing: ExitStack,
        reload: Callable[[], Stop | None] = lambda: None,
        membership: Membership | None = None,
    ) -> None:
        self._settings = settings
        board = StatusBoard(directory.path)
        watch = Watch(
            board,
            lambda: status_of(self._core, self._session),
            lambda: self._session.alive,
            reload,
        )
        self._shell = Shell("coordinator", watch)
        self._ledger = when_there_is_room(directory.path, lambda: Ledger(directory.path / LEDGER))
        closing.callback(self._ledger.close)
        self._topics = Topics(settings.federation.prefix, settings.federation.name)
        self._keyring: Keyring | NoKeyring = NoKeyring()
        if membership is not None:
            folder, name = directory.folder(SEALING), self._topics.root.rstrip("/")
            self._keyring = when_there_is_room(directory.path, lambda: Keyring(folder, name))
        self._spool = Spool(directory.folder("spool"))
        self._versions = Versions(
            directory.folder("versions"),
            settings.transfer.chunk_bytes,
            settings.transfer.model_codec,
        )
        self._layout = when_there_is_room(
            directory.path,
            lambda: ensure_first_version(
                settings, self._ledger, self._versions, directory.folder("spool")
            ),
        )
        run_id = self._ledger.identity.hex()
        self._reporter = open_reporter(settings, directory.path, run_id, self._versions)
        closing.callback(self._reporter.close)
        self._torn: set[UpdateId] = set()
        self._aside = Aside(self._shell)
        closing.callback(self._aside.close)
        self._verdicts = Verdicts(self._shell, self._ledger, self._spool)
        closing.callback(self._verdicts.close)
        self._evaluator = Evaluator(settings, self._versions, self._layout, self._tested)
        closing.callback(self._evaluator.close)
        self._me = Self(self._ledger.identity, urandom(8), self._ledger.boots)
        self._session = open_session(
            settings.link, self._identity(), self._shell.put, self._shell.waiting_bytes, membership
        )
        self._broadcast = Broadcast(self._session, self._versions, self._topics)
        signer = 0 if membership is None else membership.epoch
        memory = when_there_is_room(
            directory.path,
            lambda: remember(
                directory.path, self._ledger, self._versions, self._layout, self._keyring, signer
            ),
        )
        self._core = CoordinatorCore(self._me, self._topics, settings, memory)

    def run(self) -> Stop:
        """Loop until the core or a signal says stop; then say goodbye."""
        progression = self._core.progression
        version = progression.current.version
        self._clean(progression.oldest_needed())  # the last start may have been killed over it
        require_encodable(progression.header())
        require_memory(self._settings.aggregation, self._layout.size)
        if progression.finished and not progression.test_is_due:
            text = f"version {version} is the last one; nothing is left to do"
            self._shell.tell(Log(Level.INFO, text))
            return Stop(ExitCode.OK, text)
        stop = self._shell.run(
            Attentive(self._core, self._settings.state_dir),
            self._session,
            self._settings.link,
            self._carry_out,
            self._broadcast.go_on,
        )
        if stop.exit_code == ExitCode.OK:
            self._broadcast.finish()
        # Nobody is told that the coordinator is gone when another one has taken its place.
        self._session.stop(None if stop.exit_code == ExitCode.DUPLICATE else self._farewell())
        return stop

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

    def _carry_out(self, effect: CoordinatorEffect) -> None:
        match effect:
            case OpenUpload():
                held = self._spool.open(effect.id, effect.payload)
                self._torn.discard(effect.id)
                self._shell.put(UploadOpened(effect.id, held))
            case WriteChunk():
                was_whole = effect.id not in self._torn
                self._torn.add(effect.id)
                self._spool.write(effect.id, effect.offset, effect.data)
                if was_whole:
                    self._torn.discard(effect.id)
                self._verdicts.written(effect)
            case DropUpload():
                self._spool.drop(effect.id)
            case Screen():
                if effect.id in self._torn:
                    return  # a chunk found no room: the core is about to hear of it
                unseal = self._keyring.unseal
                self._aside.do(
                    effect,
                    lambda: screen(self._spool, self._layout, effect.id, effect.offer, unseal),
                    lambda screened: screened,
                )
            case Judge():
                self._verdicts.enter(effect)
            case Sweep():
                self._sweep(effect)
            case Combine():
                self._combine(effect)
            case Quarantine():
                enter(self._settings.state_dir, effect.device, effect.entry)
            case SetAside():
                self._ledger.set_aside(effect.ids)
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

    def _combine(self, order: Combine) -> None:
        codecs = self._ledger.codecs(part.id for part in order.contributions)
        rule = self._settings.aggregation

        def work() -> Made:
            return combine(rule, self._versions, self._spool, self._layout, codecs, order)

        def finish(made: Made) -> Combined:
            self._ledger.add_version(made.info.version, order.contributions, rule, made.outliers)
            info = replace(made.info, seal=self._keyring.refresh())
            return Combined(info, order.contributions, made.outliers)

        self._aside.do(order, work, finish)

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
