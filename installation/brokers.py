"""Which broker becomes a service: mosquitto where it is installed, else the embedded one."""

from __future__ import annotations

from pathlib import Path

from broker import mosquitto
from broker.address import listening_address, require_consent
from config.failures import ExitCode, Failure
from config.settings import BrokerSettings
from installation.configuration import Configuration
from installation.machine import Machine
from installation.places import Service
from installation.plans import Wanted
from installation.supervised import is_active

_OF_THE_DISTRIBUTION = "mosquitto.service"


def wanted_broker(
    machine: Machine, service: Service, configuration: Configuration, memory_max: str
) -> Wanted:
    """The broker that its settings ask for; raises Failure if it could not serve there."""
    settings = configuration.settings
    assert isinstance(settings, BrokerSettings), "a broker has the settings of one"
    if settings.port == 0:
        raise Failure(
            ExitCode.CONFIG, "broker: port is 0, any that is free; a service needs one to be found"
        )
    require_consent(settings)
    # Where our own broker runs already, it is what holds the port.
    free = 0 if is_active(machine, service.unit) else settings.port
    host = _listening(machine, settings, free)
    program = None if settings.kind == "embedded" else mosquitto.find()
    if program is None and (settings.kind == "mosquitto" or settings.authority is not None):
        raise Failure(
            ExitCode.CONFIG,
            "broker: mosquitto is not installed; install it (Debian: apt install mosquitto) "
            "or set kind to embedded and no authority",
        )
    if program is None or settings.authority is not None:
        # With an authority it is `flockwise broker run` that starts mosquitto and keeps it up.
        return Wanted(service, configuration, memory_max)
    text = mosquitto.configuration(host, settings.port)
    notifies = b"sd_notify" in Path(program).read_bytes()
    return Wanted(service, configuration, memory_max, (str(program), text), notifies)


def _listening(machine: Machine, settings: BrokerSettings, port: int) -> str:
    """The address to listen on; raises Failure where another holds the port, now or at boot."""
    theirs = machine.systemctl("is-enabled", _OF_THE_DISTRIBUTION).output.strip() == "enabled"
    theirs = theirs or is_active(machine, _OF_THE_DISTRIBUTION)
    if theirs and settings.port == 1883:
        raise Failure(
            ExitCode.PORT_TAKEN,
            f"broker: the distribution's {_OF_THE_DISTRIBUTION} takes port 1883; let it go "
            f"(systemctl disable --now {_OF_THE_DISTRIBUTION}), or set another port",
        )
    is_open = settings.authority is not None
    return listening_address(settings.host, port, loopback_only=not is_open).host
