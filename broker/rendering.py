"""All files that mosquitto needs to serve a federation, in one directory; nothing else is in it."""

from __future__ import annotations

import argparse
import datetime as dt
import os
import pwd
from collections.abc import Sequence
from pathlib import Path

from broker.authority import Authority, open_authority
from broker.mosquitto import Secured, secured_configuration, secured_configuration_elsewhere
from broker.rights import access_list
from config.failures import ExitCode, Failure
from config.options import UsageParser
from federation.certificates import COORDINATOR_NAME
from federation.files import replace_file
from federation.membership_files import make_private_directory

PROG = "flockwise broker render"
CONFIGURATION = "mosquitto.conf"
_EXAMPLE = """\
The directory then holds mosquitto.conf, acl, the broker's certificate and key, and either the
certificates to trust and the list of who is revoked, or the passwords. After enrolling with a
password and after revoking, render again and let mosquitto read it: kill -HUP $(pidof mosquitto).
The broker's own certificate is good for 90 days: render again before, once a month, by a timer.
"""


def main(argv: Sequence[str]) -> int:
    """Write the files for a mosquitto that is run elsewhere."""
    parser = UsageParser(
        prog=PROG,
        description="Write the whole configuration for a mosquitto that you run yourself.",
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--authority", metavar="DIR", type=Path, default=Path("authority"))
    parser.add_argument(
        "--output", metavar="DIR", type=Path, default=Path("mosquitto"), help="[mosquitto]"
    )
    parser.add_argument(
        "--at", metavar="DIR", help="where that directory will lie for mosquitto [where it is]"
    )
    parser.add_argument("--host", default="", help="address to listen on [all]")
    parser.add_argument("--port", type=int, help="port to listen on [the authority's]")
    parser.add_argument(
        "--log-denials",
        action="store_true",
        help="log who was not allowed to publish what; costs lines for every message",
    )
    given = parser.parse_args(argv)
    at = Path(given.at or given.output.absolute())
    with open_authority(given.authority) as authority:
        description = authority.description
        secured = Secured(at, description.clients == "passwords")
        text = secured_configuration_elsewhere(
            given.host, given.port or description.port, secured, log_denials=given.log_denials
        )
        render(authority, given.output, text, dt.datetime.now(dt.UTC))
    print(f"broker: {given.output} is written; run: mosquitto -c {at / CONFIGURATION}")
    return ExitCode.OK


def render_for(
    authority: Authority, directory: Path, host: str, port: int, now: dt.datetime
) -> None:
    """Write the files for a mosquitto that we run on this address.

    Raises:
        Failure: they cannot be written, or the broker's certificate is not ours to make.
    """
    authority.renew_server(now, () if host in ("0.0.0.0", "::") else (host,))
    secured = Secured(directory.resolve(), authority.description.clients == "passwords")
    text = secured_configuration(host, port, secured)
    if os.geteuid() == 0 and user_of_mosquitto(directory) is None:
        text += "user root\n"
    render(authority, directory, text, now)


def render(authority: Authority, directory: Path, configuration: str, now: dt.datetime) -> None:
    """Write the files that go with this mosquitto.conf.

    Raises:
        Failure: they cannot be written, or the broker's certificate is not ours to make.
    """
    if not authority.is_ours:
        raise Failure(
            ExitCode.CONFIG,
            "broker: this authority was made for a broker that others run (--broker-ca): there is"
            " nothing to run or to render here",
        )
    authority.renew_server(now)
    try:
        if not directory.exists():
            make_private_directory(directory)
        for name, data in _files(authority, configuration, now).items():
            replace_file(directory / name, data, private=True)
        _let_mosquitto_read(directory)
    except OSError as error:
        raise Failure(
            ExitCode.CANNOT_WRITE, f"broker: cannot write {directory} ({error.strerror})"
        ) from error


def _files(authority: Authority, configuration: str, now: dt.datetime) -> dict[str, bytes]:
    entries = authority.registry.entries()
    revoked = [entry.subject for entry in entries if entry.is_revoked and entry.subject]
    files = {
        CONFIGURATION: configuration,
        "acl": access_list(authority.description.topics, revoked),
    }
    if authority.description.clients == "passwords":
        files["passwords"] = "".join(
            f"{entry.subject or COORDINATOR_NAME}:{entry.password}\n"
            for entry in entries
            if entry.password is not None and not entry.is_revoked
        )
    found = {name: text.encode() for name, text in files.items()}
    if authority.description.clients == "certificates":
        found |= {"ca.pem": authority.chain, "crl.pem": authority.crl(now)}
    found["server.pem"] = (authority.directory / "server.pem").read_bytes()
    return found


def _let_mosquitto_read(directory: Path) -> None:
    """mosquitto that root starts goes on as its own user, before it reads its files."""
    user = user_of_mosquitto(directory)
    if user is not None and directory.stat().st_uid == 0:
        for path in (*directory.iterdir(), directory):  # the directory last: it is ours till then
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def user_of_mosquitto(directory: Path) -> pwd.struct_passwd | None:
    """The user that mosquitto becomes where root starts it; None if it stays who it is.

    It stays root where it could not come to this directory as anybody else.
    """
    if os.geteuid() != 0:
        return None
    try:
        user = pwd.getpwnam("mosquitto")
    except KeyError:
        return None
    for parent in directory.resolve().parents:
        status = parent.stat()
        if not status.st_mode & 0o001 and status.st_uid != user.pw_uid:
            return None
    return user
