"""`flockwise agent run`: the shell that carries an agent's effects out.

The loop's thread owns the outbox, the store and the session. Training runs in a process of its
own, so the link stays alive through an epoch of any length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from math import inf
from os import urandom
from typing import Any

from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import AgentSettings
from device_agent.budget import Budget, account_of
from device_agent.core import AgentCore
from device_agent.eligibility import Probe, hindrance
from device_agent.outbox import Outbox
from device_agent.presence import Self
from device_agent.status import Story, status_of
from device_agent.store import Store
from device_agent.trainer import Outcome, Trainer, outcome_bytes
from device_agent.vocabulary import (
    Abandon,
    AgentEffect,
    Commit,
    Committed,
    Forget,
    Forgotten,
    Look,
    Looked,
    Pause,
    Prepare,
    Prepared,
    SendChunk,
    StoreChunk,
    Train,
    TrainingBegun,
    TrainingFailed,
)
from federation.credentials import COORDINATOR
from federation.incarnation import last_of_start
from federation.machine import Publish, Stop, Tick
from federation.membership import Membership, as_member
from federation.messages import Chunk, Header, Offer, State, encode
from federation.role import run_role
from federation.sealing import about
from federation.session import HIGH_WATER_BYTES, Identity
from federation.shell import Shell, end_with
from federation.signed_session import open_session
from federation.state_directory import StateDirectory, in_state_directory, when_there_is_room
from federation.status_board import StatusBoard
from federation.topics import Topics
from federation.watch import Watch

log = logging.getLogger(__name__)


def main(argv: Sequence[str]) -> int:
    """Run an agent until it is told to stop, or another agent has its id."""
    return run_role(lambda: load(AgentSettings, argv, prog="flockwise agent run"), run)


def run(settings: AgentSettings, reload: Callable[[], Stop | None] = lambda: None) -> Stop:
    """As `main`, from settings.

    Args:
        reload: asked when the settings may have changed.

    Raises:
        Failure: another agent is this device, or a file or the broker cannot be had.
    """
    logs.configure(f"agent {settings.device}", settings.log_level, settings.log_format)
    if not settings.chunk.exists():
        raise Failure(
            ExitCode.NO_INPUT,
            f"there is no chunk {settings.chunk}; make one with `flockwise lab partition`",
        )
    settings, membership = as_member(settings, how="flockwise agent join")
    with in_state_directory(settings.state_dir) as (directory, closing):
        stop = _Service(settings, directory, closing, reload, membership).run()
    return end_with(stop)


class _Service:
    def __init__(
        self,
        settings: AgentSettings,
        directory: StateDirectory,
        closing: ExitStack,
        reload: Callable[[], Stop | None] = lambda: None,
        membership: Membership | None = None,
    ) -> None:
        self._settings = settings
        self._story = Story()
        watch = Watch(
            StatusBoard(directory.path),
            self._status,
            lambda: self._session.alive and self._trainer.alive,
            reload,
        )
        self._shell = Shell("device_agent", watch, self._story.hear)
        self._probe = Probe(directory.path)
        # A start is counted in the outbox, and without its number no presence can be told: so on
        # a full disk there is a line in the log, and nothing else begins.
        self._outbox = when_there_is_room(
            directory.path, lambda: Outbox(directory.folder("outbox"))
        )
        closing.callback(self._outbox.close)
        self._store = when_there_is_room(directory.path, lambda: Store(directory.folder("model")))
        self._trainer = Trainer(settings, self._trained)
        closing.callback(self._trainer.close)
        account = account_of(settings.privacy, self._outbox.past())
        if account is not None:
            # What waits there without noise is not to leave any more.
            when_there_is_room(directory.path, self._outbox.drop_bare)
        self._topics = Topics(settings.federation.prefix, settings.federation.name)
        self._me = Self(
            device=settings.device,
            outbox=self._outbox.identity,
            process=urandom(8),
            boot=self._outbox.boots,
            task=settings.task,
            agent=_version(),
            privacy="" if account is None else str(account)[:300],
        )
        self._offers = {offer.sequence: offer for offer in self._outbox.offers()}
        seen, remembered = self._store.seen(), self._store.remembered()
        # A coordinator that was given new keys is not believed with its former ones any more.
        least = {COORDINATOR: 0 if seen is None else seen.signer}
        self._session = open_session(
            settings.link,
            self._identity(),
            self._shell.put,
            self._shell.waiting_bytes,
            membership,
            least,
        )
        self._core = AgentCore(
            self._me,
            self._topics,
            settings.transfer,
            settings.outbox_limit,
            self._offers.values(),
            self._outbox.trained(),
            remembered,
            str(directory.path),
            inf if settings.train_alone_after_s is None else settings.train_alone_after_s,
            Budget(account),
            seen,
            self._store.begun(remembered),
            sealed=membership is not None,
        )

    def run(self) -> Stop:
        """Loop until the core or a signal says stop; then say goodbye."""
        for line in self._core.budget.warnings():
            log.warning(line.text, extra=logs.facts(**line.facts))
        self._shell.put(Tick())  # there may be work that needs no link
        stop = self._shell.run(self._core, self._session, self._settings.link, self._carry_out)
        self._trainer.close()
        # The presence belongs to the agent that took the id over, if one did.
        self._session.stop(None if stop.exit_code == ExitCode.DUPLICATE else self._farewell())
        return stop

    def _status(self) -> dict[str, Any]:
        progress = self._trainer.progress
        return status_of(self._settings, self._core, self._session, self._story, progress)

    def _identity(self) -> Identity:
        def will(incarnation: int) -> Publish:
            return self._gone(incarnation)

        return Identity(
            # The topic of the presence: no two devices on a broker share it.
            client_id=self._topics.device(self._me.device),
            filters=self._topics.standing_filters(self._settings.device),
            will=will,
            boot=self._outbox.boots,
        )

    def _gone(self, incarnation: int) -> Publish:
        presence = self._me.presence(State.OFFLINE, incarnation)
        return Publish(self._topics.device(self._me.device), encode(presence), retain=True)

    def _farewell(self) -> Publish:
        return self._gone(last_of_start(self._me.boot))

    def _carry_out(self, effect: AgentEffect) -> None:
        match effect:
            case Prepare():
                held = self._store.prepare(effect.header)
                self._shell.put(Prepared(effect.header, held))
            case StoreChunk():
                self._store.write(effect.header, effect.index, effect.data)
            case Train():
                self._train(effect.header)
            case Look():
                conditions = self._probe.look()
                rule, before = self._settings.eligibility, effect.was_hindered
                self._shell.put(Looked(hindrance(rule, conditions, was_hindered=before)))
            case Pause():
                self._trainer.pause()
            case Abandon():
                self._trainer.abandon()
                self._store.forget_training()
            case Commit():
                self._commit(effect)
            case SendChunk():
                self._send(effect)
            case Forget():
                self._offers.pop(effect.sequence, None)
                self._outbox.forget(effect.sequence, accepted=effect.accepted)
                self._shell.put(Forgotten(effect.sequence))
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _train(self, header: Header) -> None:
        outbox, store = self._outbox, self._store
        output, rest = outbox.next_paths(outcome_bytes(header))
        remembers = header.plan.memory
        is_again = outbox.trained() == (header.ledger, header.version)
        self._trainer.train(
            header,
            store.path(header),
            store.checkpoint,
            outbox.residual(noised=self._settings.privacy.is_on),
            output,
            rest,
            again=outbox.next_sequence() if is_again else None,
            about=self._about(header),
            memory=outbox.memory(header) if remembers else None,
            next_memory=outbox.next_memory_path() if remembers else None,
        )
        self._shell.put(TrainingBegun(header.version))

    def _about(self, header: Header) -> bytes:
        """What the next update is bound to, if it is sealed."""
        return about(
            self._topics.root.rstrip("/"),
            self._me.device,
            self._me.outbox,
            self._outbox.next_sequence(),
            header.ledger,
            header.version,
            header.plan.codec,
        )

    def _commit(self, order: Commit) -> None:
        chunk_bytes = self._settings.transfer.chunk_bytes
        try:
            # A task of the user's may give figures that no offer holds; or there is no noise.
            outcome = self._core.budget.entered(order.outcome)
            offer: Offer = self._outbox.commit(order.header, outcome, chunk_bytes)
        except ValueError as error:
            reason = " ".join(f"no offer can be made of it: {error}".split())[:300]
            self._shell.put(TrainingFailed(order.header.version, reason))
            return
        self._store.forget_training()
        self._offers[offer.sequence] = offer
        self._shell.put(Committed(offer))

    def _send(self, order: SendChunk) -> None:
        if self._session.backlog_bytes >= HIGH_WATER_BYTES:
            return  # it is asked for again once the link has carried what it has
        offer = self._offers[order.sequence]
        data = self._outbox.chunk(offer, order.index)
        chunk = Chunk(order.sequence, order.index, data).encode()
        self._session.publish(Publish(self._topics.up(self._me.device), chunk, qos=0))

    def _trained(self, outcome: Outcome) -> None:
        """Training ended, in the thread of the worker's handle."""

        def finish() -> Outcome:
            self._trainer.rest()
            return outcome

        self._shell.call(finish)


def _version() -> str:
    try:
        return version("flockwise")
    except PackageNotFoundError:
        return "unpackaged"
