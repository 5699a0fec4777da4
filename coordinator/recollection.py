"""What a coordinator remembers when it starts, read from its disk."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from coordinator.keyring import Keyring, NoKeyring
from coordinator.ledger import Ledger
from coordinator.norms import WINDOW
from coordinator.quarantine import read_entries
from coordinator.standing import MARKED_VERSIONS
from coordinator.versions import Versions
from coordinator.vocabulary import Recollection
from federation.layout import Layout


def remember(
    state_dir: Path,
    ledger: Ledger,
    versions: Versions,
    layout: Layout,
    keyring: Keyring | NoKeyring,
    signer: int,
) -> Recollection:
    """All that a new start has to know.

    Args:
        signer: epoch of the coordinator's credential.
    """
    newest = ledger.newest_version()
    assert newest is not None, "the first version is made before anything is remembered"
    return Recollection(
        ledger=ledger.identity,
        current=replace(versions.info(newest, layout), seal=keyring.refresh()),
        settled=ledger.settled(),
        buffer=ledger.buffer(),
        norms=ledger.norms(WINDOW),
        contributed=ledger.contributed(),
        marks=ledger.marks(MARKED_VERSIONS),
        entries=read_entries(state_dir),
        tested=newest == 0 or ledger.is_tested(newest),
        founded=ledger.founded(),
        signer=signer,
        seals=keyring.names,
        holders=ledger.holders(),
    )
