"""`flockwise agent run`: the shell that carries an agent's effects out.

The loop's thread owns the outbox, the store and the session. Training runs in a process of its
own, so the link stays alive through an epoch of any length.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from os import urandom

from config import logs
from config.failures import ExitCode, Failure
from config.loading import load
from config.settings import AgentSettings
from device_agent.core import AgentCore
from device_agent.outbox import Outbox
from device_agent.presence import Self
from device_agent.store import Store
from device_agent.trainer import Outcome, Trainer
from device_agent.vocabulary import (
    Abandon,
    AgentEffect,
    Commit,
    Committed,
    Forget,
    Forgotten,
    Prepare,
    Prepared,
    SendChunk,
    StoreChunk,
    Train,
    TrainingBegun,
    TrainingFailed,
)
from federation.incarnation import last_of_start
from federation.layout import Layout
from federation.machine import Publish, Stop, Tick
from federation.messages import Chunk, Header, Offer, State, encode
from federation.paho_session import PahoSession
from federation.session import HIGH_WATER_BYTES, Identity
from federation.shell import Shell, end_with
from federation.sizes import encoded_size
from federation.state_directory import StateDirectory, in_state_directory, when_there_is_room
from federation.topics import Topics


def main(argv: Sequence[str]) -> int:
    """Run an agent until it is told to stop, or another agent has its id."""
    settings = load(AgentSettings, argv, prog="flockwise agent run")
    logs.configure(f"agent {settings.device}", settings.log_level, settings.log_format)
    return run(settings).exit_code


def run(settings: AgentSettings) -> Stop:
    """As `main`, from settings.

    Raises:
        Failure: another agent is this device, or a file or the broker cannot be had.
    """
    if not settings.chunk.exists():
        raise Failure(
            ExitCode.NO_INPUT,
            f"there is no chunk {settings.chunk}; make one with `flockwise lab partition`",
        )
    with in_state_directory(settings.state_dir) as (directory, closing):
        stop = _Service(settings, directory, closing).run()
    return end_with(stop)


class _Service:
    def __init__(
        self, settings: AgentSettings, directory: StateDirectory, closing: ExitStack
    ) -> None:
        self._settings = settings
        self._shell = Shell("device_agent")
        # A start is counted in the outbox, and without its number no presence can be told: so on
        # a full disk there is a line in the log, and nothing else begins.
        self._outbox = when_there_is_room(
            directory.path, lambda: Outbox(directory.folder("outbox"))
        )
        closing.callback(self._outbox.close)
        self._store = when_there_is_room(directory.path, lambda: Store(directory.folder("model")))
        self._trainer = Trainer(settings, self._trained)
        closing.callback(self._trainer.close)
        self._topics = Topics(settings.federation.prefix, settings.federation.name)
        self._me = Self(
            device=settings.device,
            outbox=self._outbox.identity,
            process=urandom(8),
            boot=self._outbox.boots,
            task=settings.task,
            agent=_version(),
        )
        self._offers = {offer.sequence: offer for offer in self._outbox.offers()}
        self._session = PahoSession(settings.link, self._identity(), self._shell.put)
        self._core = AgentCore(
            self._me,
            self._topics,
            settings.transfer,
            settings.outbox_limit,
            self._offers.values(),
            self._outbox.trained(),
            self._store.remembered(),
            str(directory.path),
        )

    def run(self) -> Stop:
        """Loop until the core or a signal says stop; then say goodbye."""
        self._shell.put(Tick())  # there may be work that needs no link
        stop = self._shell.run(self._core, self._session, self._settings.link, self._carry_out)
        self._trainer.close()
        # The presence belongs to the agent that took the id over, if one did.
        self._session.stop(None if stop.exit_code == ExitCode.DUPLICATE else self._farewell())
        return stop

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
                output, rest = self._outbox.next_paths(_outcome_bytes(effect.header))
                self._trainer.train(
                    effect.header,
                    self._store.path(effect.header),
                    self._store.checkpoint,
                    self._outbox.residual(),
                    output,
                    rest,
                )
                self._shell.put(TrainingBegun(effect.header.version))
            case Abandon():
                self._trainer.abandon()
                self._store.forget_training()
            case Commit():
                self._commit(effect)
            case SendChunk():
                self._send(effect)
            case Forget():
                self._offers.pop(effect.sequence, None)
                self._outbox.forget(effect.sequence)
                self._shell.put(Forgotten(effect.sequence))
            case _:
                raise AssertionError(f"nobody carries out {effect}")

    def _commit(self, order: Commit) -> None:
        chunk_bytes = self._settings.transfer.chunk_bytes
        try:
            offer: Offer = self._outbox.commit(order.header, order.outcome, chunk_bytes)
        except ValueError as error:  # a task of the user's may give figures that no offer holds
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


def _outcome_bytes(header: Header) -> int:
    """What a training on this version gives, on disk: its payload and its residual."""
    elements = Layout.from_wire(header.layout).size
    whole, encoded = (encoded_size(codec, elements) for codec in ("float32", header.plan.codec))
    return encoded if encoded == whole else encoded + whole


def _version() -> str:
    try:
        return version("flockwise")
    except PackageNotFoundError:
        return "unpackaged"
