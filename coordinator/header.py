"""The header of a version: what devices have to know to fetch it and to train on it."""

from __future__ import annotations

from config.settings import CoordinatorSettings
from coordinator.vocabulary import Recollection, VersionInfo
from federation.messages import Header


def header_of(
    settings: CoordinatorSettings, memory: Recollection, info: VersionInfo, boot: int, draw: int
) -> Header:
    """The header of a version that is checkpointed.

    Args:
        boot: how often this coordinator was started.
        draw: which of the invitations to this version it is.
    """
    return Header(
        ledger=memory.ledger,
        version=info.version,
        slot=info.version % settings.transfer.slots,
        codec=info.codec,
        payload=info.payload,
        layout=tuple(info.layout.to_wire()),
        task=settings.task,
        plan=settings.training,
        max_staleness=settings.aggregation.max_staleness,
        invited=settings.aggregation.fraction,
        boot=boot,
        draw=draw,
        founded=memory.founded,
        seal=info.seal,
        signer=memory.signer,
    )
