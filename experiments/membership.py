"""The demo's devices and coordinator are members of a federation of their own.

So all is signed and sealed as it is in the field. The link itself has TLS where the broker is
mosquitto; the embedded one has none, and serves this machine alone.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from pathlib import Path

from broker.authority import DEFAULT_PORT, Description, open_authority
from broker.enrolment import bundle_for
from broker.founding import Plan, found
from config.sections import FederationName
from experiments.run_directory import RunDirectory
from federation.membership import FOLDER, Member
from federation.membership_files import write_membership

_OF_TLS = ("ca.pem", "certificate.pem", "tls.key")


def give_memberships(
    run: RunDirectory, federation: FederationName, devices: Iterable[str], *, tls: bool
) -> None:
    """Make an authority in the run's directory, and members of its coordinator and devices.

    Raises:
        Failure: they cannot be written.
    """
    now = dt.datetime.now(dt.UTC)
    # Where the broker is, the settings of each role say: its port is not known yet.
    description = Description(federation=federation, hosts=("127.0.0.1",), port=DEFAULT_PORT)
    found(run.authority, Plan(description), now)
    if not tls:
        folder = run.membership
        write_membership(folder, _without_tls({p.name: p.read_bytes() for p in _files(folder)}))
    with open_authority(run.authority) as authority:
        for device in devices:
            files = bundle_for(authority, device, now).files
            folder = run.device(device) / FOLDER
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_membership(folder, files if tls else _without_tls(files))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()]


def _without_tls(files: dict[str, bytes]) -> dict[str, bytes]:
    member = Member.model_validate_json(files["member.json"]).model_copy(update={"tls": False})
    kept = {name: data for name, data in files.items() if name not in _OF_TLS}
    return {**kept, "member.json": member.model_dump_json().encode()}
