"""Who may connect to a broker that is started here: members of an authority, or, on loopback and
only if that is said, anybody."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from broker.address import Address, accepts_connect, require_consent
from broker.authority import Authority, open_authority
from broker.door import serves
from config.failures import ExitCode, Failure
from config.settings import BrokerSettings


@dataclass(frozen=True, slots=True)
class Access:
    """An authority whose members may connect; None: anybody may, from this machine."""

    authority: Authority | None

    @property
    def changes(self) -> int:
        """How often the authority's registry was changed so far."""
        return 0 if self.authority is None else self.authority.registry.changes

    def serves(self, address: Address) -> bool:
        """Whether a broker answers there as one with this access does."""
        if self.authority is None:
            return accepts_connect(address)
        return serves(self.authority, address)


@contextmanager
def access_of(settings: BrokerSettings) -> Iterator[Access]:
    """Who may connect by these settings.

    Raises:
        Failure: nobody said who, or the authority cannot be read.
    """
    if settings.authority is None:
        require_consent(settings)
        yield Access(None)
        return
    with open_authority(settings.authority) as authority:
        yield Access(authority)


def needs_mosquitto() -> Failure:
    """The failure for an authority without mosquitto."""
    return Failure(
        ExitCode.CONFIG,
        "broker: the embedded broker knows neither TLS nor rights; with an authority, install"
        " mosquitto (Debian: apt install mosquitto)",
    )
