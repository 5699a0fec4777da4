"""The commands of an authority: init, revoke, list."""

from __future__ import annotations

import datetime as dt
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from broker.authority import DEFAULT_PORT, Description, open_authority
from broker.command_line import device_name, now, parser_of, port_number, tell_taken_up
from broker.enrolment import revoke
from broker.founding import Plan, found
from broker.registry import Entry
from config.failures import ExitCode, Failure
from config.sections import FederationName
from federation.bundle import one_line

_INIT = """\
examples:
  flockwise broker init --host gateway.example
  flockwise broker init --host gateway.example --ca-cert ca.pem --ca-key ca.key
  flockwise broker init --host mqtt.example --clients passwords --broker-ca provider.pem

Devices are told the first --host; the broker's certificate is good for all of them, and for this
machine under localhost. Next: flockwise broker run --authority DIR, flockwise coordinator run
--membership DIR/coordinator, and flockwise broker enroll DEVICE for each device.
Keep DIR to yourself, and a copy of it in a safe place: who has it can let anybody in.
"""
_REVOKE = """\
What the device was given is worth nothing from then on: a running broker puts it out within
seconds and does not let it in again, and the coordinator believes it no more. Only
`flockwise broker enroll` lets it in again.
"""


def init_main(argv: Sequence[str]) -> int:
    """Make the authority of a federation."""
    parser = parser_of("init", "Make the authority of a federation.", _INIT)
    parser.add_argument(
        "--host",
        action="append",
        metavar="HOST",
        help="how devices reach the broker; may be repeated [the name of this machine]",
    )
    parser.add_argument("--port", type=port_number, default=DEFAULT_PORT, help=f"[{DEFAULT_PORT}]")
    parser.add_argument(
        "--clients",
        choices=("certificates", "passwords"),
        default="certificates",
        help="how clients tell the broker who they are [certificates]",
    )
    parser.add_argument("--ca-cert", metavar="FILE", type=Path, help="use this CA, and those above")
    parser.add_argument("--ca-key", metavar="FILE", type=Path, help="its key")
    parser.add_argument(
        "--broker-ca",
        metavar="FILE",
        type=Path,
        help="somebody else runs the broker: the CA of its certificate",
    )
    parser.add_argument("--federation-prefix", default="flockwise", help="[flockwise]")
    parser.add_argument("--federation-name", default="default", help="[default]")
    given = parser.parse_args(argv)
    if (given.ca_cert is None) != (given.ca_key is None):
        parser.error("--ca-cert and --ca-key go together")
    if given.broker_ca is not None and not given.host:
        parser.error("--broker-ca needs --host, the broker's name")
    try:
        description = Description(
            federation=FederationName(prefix=given.federation_prefix, name=given.federation_name),
            hosts=tuple(given.host or (socket.gethostname(),)),
            port=given.port,
            clients=given.clients,
        )
    except ValidationError as error:
        raise Failure(ExitCode.USAGE, f"{one_line(error)} (see {parser.prog} --help)") from None
    ca = (_read(given.ca_cert), _read(given.ca_key)) if given.ca_cert else None
    trust = _read(given.broker_ca) if given.broker_ca else None
    found(given.authority, Plan(description, ca, trust), now())
    where = f"{description.hosts[0]}:{description.port}"
    print(f"broker: {given.authority} is the authority of {description.name}, reached at {where}")
    if trust is None:
        print(f"next: flockwise broker run --authority {given.authority}")
    print(f"next: flockwise coordinator run --membership {given.authority / 'coordinator'}")
    return ExitCode.OK


def revoke_main(argv: Sequence[str]) -> int:
    """Shut a device out."""
    parser = parser_of("revoke", "Shut a device out, now and for good.", _REVOKE)
    parser.add_argument("device", metavar="DEVICE", type=device_name, help="its name")
    given = parser.parse_args(argv)
    with open_authority(given.authority) as authority:
        revoke(authority, given.device, now())
        print(f"broker: {given.device} is revoked")
        tell_taken_up(authority)
    return ExitCode.OK


def list_main(argv: Sequence[str]) -> int:
    """Show who is enrolled."""
    parser = parser_of("list", "Show who is enrolled, until when, and who was revoked.", "")
    parser.add_argument("--json", action="store_true", help="for programs")
    given = parser.parse_args(argv)
    with open_authority(given.authority) as authority:
        entries = authority.registry.entries()
        name = authority.description.name
    if given.json:
        shown = [_as_json(entry) for entry in entries]
        print(json.dumps({"federation": name, "members": shown}, indent=2))
        return ExitCode.OK
    revoked = sum(entry.is_revoked for entry in entries)
    print(f"{name}: {len(entries) - revoked} enrolled" + (f", {revoked} revoked" * bool(revoked)))
    for entry in entries:
        print(f"  {entry.subject or '(coordinator)':<40}  {_state(entry)}")
    return ExitCode.OK


def _state(entry: Entry) -> str:
    if entry.revoked_at is not None:
        return f"revoked {_date(entry.revoked_at)}"
    if entry.not_after is None:
        return "by password"
    over = " (over)" if entry.not_after < now().timestamp() else ""
    return f"until {_date(entry.not_after)}{over}"


def _as_json(entry: Entry) -> dict[str, object]:
    return {
        "device": entry.subject or None,
        "role": "device" if entry.subject else "coordinator",
        "epoch": entry.epoch,
        "by": "certificate" if entry.serial is not None else "password",
        "serial": None if entry.serial is None else f"{entry.serial:x}",
        "not_after": entry.not_after,
        "enrolled_at": entry.issued_at,
        "revoked_at": entry.revoked_at,
    }


def _date(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, dt.UTC).date().isoformat()


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failure(ExitCode.NO_INPUT, f"{path}: cannot be read: {error.strerror}") from error
