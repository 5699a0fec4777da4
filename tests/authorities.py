"""Authorities for tests: made as `flockwise broker init` makes them."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from broker.authority import Clients, Description
from broker.founding import Plan, found
from config.sections import FederationName


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def description(port: int = 8883, clients: Clients = "certificates") -> Description:
    return Description(
        federation=FederationName(), hosts=("127.0.0.1",), port=port, clients=clients
    )


def an_authority(
    directory: Path, *, clients: Clients = "certificates", moment: dt.datetime | None = None
) -> Path:
    """The directory of a new authority of `flockwise/default`."""
    found(directory, Plan(description(clients=clients)), moment or now())
    return directory
