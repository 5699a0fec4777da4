"""`flockwise broker enroll`: a device is let in, by a bundle or by a one-time token."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from broker.authority import open_authority
from broker.certificates import DEVICE_DAYS
from broker.command_line import device_name, now, parser_of, port_number, positive, tell_taken_up
from broker.desk import Desk
from broker.enrolment import bundle_for, enrol_coordinator
from config.failures import ExitCode, Failure
from federation.bundle import Bundle, write_bundle
from federation.enrolment_token import write_token
from federation.files import replace_file

_ENROLL = """\
examples:
  flockwise broker enroll camera-7
  flockwise broker enroll camera-7 --token --host gateway.example

Either makes a bundle, a file with all that camera-7 needs, keys too: carry it there by hand or over
SSH, and delete it when it has joined. Or, with --token, prints a line that is good once and not for
long; the device makes its own keys then, and no private key travels. On the device:
flockwise agent join BUNDLE|TOKEN. Who is enrolled again loses what it was given before.
"""


def main(argv: Sequence[str]) -> int:
    """Let a device in."""
    parser = parser_of("enroll", "Let a device in, by a file or by a one-time token.", _ENROLL)
    parser.add_argument("device", metavar="DEVICE", type=device_name, nargs="?", help="its name")
    parser.add_argument(
        "--coordinator",
        action="store_true",
        help="in place of DEVICE: make the coordinator's keys in the authority's directory anew",
    )
    parser.add_argument("--output", metavar="FILE", type=Path, help="the bundle [DEVICE.flockwise]")
    parser.add_argument(
        "--days",
        type=positive,
        default=DEVICE_DAYS,
        help=f"life of its certificate [{DEVICE_DAYS}]",
    )
    parser.add_argument(
        "--password",
        action="store_true",
        help="make sure that it logs in with a password, as `broker init --clients passwords` says",
    )
    parser.add_argument("--token", action="store_true", help="serve a one-time token, no bundle")
    parser.add_argument("--minutes", type=positive, default=15.0, help="how long it is good [15]")
    parser.add_argument(
        "--host", help="with --token: how the device reaches this machine [the broker's host]"
    )
    parser.add_argument(
        "--port", type=port_number, default=0, help="with --token [any that is free]"
    )
    given = parser.parse_args(argv)
    if (given.device is None) != given.coordinator:
        parser.error("give either DEVICE or --coordinator")
    if given.coordinator and (given.token or given.output or given.password):
        parser.error("--coordinator takes neither --token nor --output nor --password")
    if given.device == "coordinator":
        parser.error("no device is called coordinator; for the coordinator itself: --coordinator")
    with open_authority(given.authority) as authority:
        if given.coordinator:
            enrol_coordinator(authority, now())
            place = given.authority / "coordinator"
            print(f"broker: the coordinator's keys in {place} are new")
            tell_taken_up(authority)
            print(
                f"next: start the coordinator anew (flockwise coordinator run --membership {place};"
                " a service: coordinator install): until then it signs with its former key"
            )
            return ExitCode.OK
        if given.password and authority.description.clients != "passwords":
            raise Failure(
                ExitCode.CONFIG,
                "enroll: the broker of this authority asks for certificates; an authority for"
                " passwords is made by `flockwise broker init --clients passwords`",
            )
        host = given.host or authority.description.hosts[0]
        if given.token:
            _serve_token(given, host)
            tell_taken_up(authority)
            return ExitCode.OK
        path = given.output or Path(f"{given.device}.flockwise")
        bundle = _write_bundle(path, lambda: bundle_for(authority, given.device, now(), given.days))
        print(f"broker: {given.device} is enrolled; {path} holds its keys")
        if bundle.password is not None and not authority.is_ours:
            print(
                f"next: let the broker take user {given.device} with the password in {path}"
                " (password), and give it the rights of docs/enrolment.md"
            )
        print(f"next: carry {path} to the device; there: flockwise agent join {path.name}")
        tell_taken_up(authority)
    return ExitCode.OK


def _write_bundle(path: Path, make: Callable[[], Bundle]) -> Bundle:
    """Make a bundle and write it; nobody is enrolled where it could not be written."""
    try:
        path.touch(mode=0o600, exist_ok=False)
        try:
            bundle = make()
            replace_file(path.absolute(), write_bundle(bundle), private=True)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
    except FileExistsError:
        raise Failure(
            ExitCode.CONFIG,
            f"enroll: {path} is there already, of an earlier enrolment; delete it or choose"
            " --output; nobody was enrolled anew",
        ) from None
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"enroll: cannot write {path} ({error.strerror})"
        ) from error
    return bundle


def _serve_token(given: argparse.Namespace, host: str) -> None:
    listen = ("::" if ":" in host else "0.0.0.0", given.port)
    desk = Desk(given.authority, given.device, given.days, listen, host, _say)
    print(f"broker: within {given.minutes:g} minutes, on {given.device}:")
    print(f"flockwise agent join {write_token(desk.token)}", flush=True)
    if not desk.serve(given.minutes * 60):
        raise Failure(
            ExitCode.UNAVAILABLE,
            f"enroll: nobody joined as {given.device} in time; run it again for another token",
        )


def _say(line: str) -> None:
    print(f"broker: {line}", flush=True)
